-- Points of people: what a person is, beside what a person did and what was added by hand or rule.
with contacts as (
    select
        contacts.contact_id,
        contacts.job_function,
        contacts.seniority,
        contacts.country,
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
)

select
    contacts.contact_id,
    contacts.account_id,
    coalesce(fit.fit_points, 0) as fit_points,
    points.engagement_points,
    coalesce(balances.points, 0) as adjustment_points,
    case
        when points.engagement_points is not null or balances.points is not null
            then coalesce(fit.fit_points, 0) + coalesce(points.engagement_points, 0) + coalesce(balances.points, 0)
    end as total_points
from contacts
left join points on contacts.contact_id = points.contact_id
left join balances on contacts.contact_id = balances.contact_id
left join fit on contacts.contact_id = fit.contact_id
