-- Of an account's people those who did something come first, by all their points.
with ranked as (
    select
        scored.*,
        row_number() over (
            partition by scored.account_id
            order by
                case when scored.engagement_points is not null then scored.total_points end desc nulls last,
                scored.fit_points desc nulls last,
                scored.contact_id
        ) as rank_no
    from {{ ref('int_contacts__scored') }} as scored
)

select
    contacts.contact_id,
    ranked.account_id,
    contacts.contact_name,
    contacts.job_title,
    contacts.job_function,
    contacts.seniority,
    contacts.is_unsubscribed,
    ranked.fit_points,
    ranked.engagement_points,
    ranked.adjustment_points,
    ranked.total_points,
    coalesce(touches.touchpoint_count, 0) as touchpoint_count,
    touches.last_touchpoint_date,
    case when ranked.account_id is not null then cast(ranked.rank_no as bigint) end as rank_in_account,
    card.scorecard_version,
    refresh.as_of_at
from {{ ref('int_contacts') }} as contacts
inner join ranked on contacts.contact_id = ranked.contact_id
cross join {{ source('settings', 'scorecard') }} as card
cross join {{ source('settings', 'refresh') }} as refresh
left join {{ ref('int_contact_touches') }} as touches on contacts.contact_key = touches.contact_key
