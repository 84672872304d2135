with contacts as (
    select
        contacts.*,
        spine.account_id
    from {{ ref('int_contacts') }} as contacts
    left join {{ ref('int_spine__contacts') }} as spine on contacts.contact_id = spine.contact_id
),

points as (
    select
        spine_id as contact_id,
        cast(sum(case when value is not null then points else 0 end) as bigint) as engagement_points
    from {{ ref('int_contacts__points') }}
    group by spine_id
),

balances as (
    select
        contact_id,
        points
    from {{ ref('int_adjustments__balances') }}
    where subject_kind = 'contact'
),

-- What a person is, beside what a person did.
fit as (
    select
        contacts.contact_id,
        cast(sum(worth.points) as bigint) as fit_points
    from contacts
    inner join {{ source('settings', 'people_points') }} as worth
        on
            (worth.field = 'job_function' and contacts.job_function = worth.value)
            or (worth.field = 'seniority' and contacts.seniority = worth.value)
            or (worth.field = 'country' and contacts.country = worth.value)
    group by contacts.contact_id
),

touches as (
    select * from {{ ref('int_contact_touches') }}
)

select
    contacts.contact_id,
    contacts.account_id,
    contacts.contact_name,
    contacts.job_title,
    contacts.job_function,
    contacts.seniority,
    contacts.is_unsubscribed,
    coalesce(fit.fit_points, 0) as fit_points,
    points.engagement_points,
    coalesce(balances.points, 0) as adjustment_points,
    case
        when points.engagement_points is not null or balances.points is not null
            then coalesce(fit.fit_points, 0) + coalesce(points.engagement_points, 0) + coalesce(balances.points, 0)
    end as total_points,
    coalesce(touches.touchpoint_count, 0) as touchpoint_count,
    touches.last_touchpoint_date,
    case
        when contacts.account_id is not null then
            cast(
                row_number() over (
                    partition by contacts.account_id
                    order by
                        coalesce(fit.fit_points, 0) + points.engagement_points + coalesce(balances.points, 0) desc nulls last,
                        coalesce(fit.fit_points, 0) desc nulls last,
                        contacts.contact_id
                ) as bigint
            )
    end as rank_in_account,
    card.scorecard_version,
    refresh.as_of_at
from contacts
cross join {{ source('settings', 'scorecard') }} as card
cross join {{ source('settings', 'refresh') }} as refresh
left join points on contacts.contact_id = points.contact_id
left join balances on contacts.contact_id = balances.contact_id
left join fit on contacts.contact_id = fit.contact_id
left join touches on contacts.contact_id = touches.contact_id
