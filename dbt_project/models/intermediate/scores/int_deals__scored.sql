with totals as (
    select
        spine_id,
        cast(sum(case when kind = 'explicit' then points else 0 end) as bigint) as fit_points,
        cast(sum(case when kind = 'implicit' then points else 0 end) as bigint) as engagement_points,
        cast(sum(points) as bigint) as total_points
    from {{ ref('int_deals__points') }}
    group by spine_id
)

select
    deals.spine_id as opportunity_id,
    deals.account_id,
    deals.as_of_at as opened_at,
    deals.closed_at,
    deals.is_won,
    totals.fit_points,
    totals.engagement_points,
    totals.total_points,
    {{ fit_grade('totals.fit_points', 'card') }} || {{ engagement_level('totals.engagement_points', 'card') }} as cell,
    {{ win_probability('totals.total_points', 'card') }} as win_probability
from {{ ref('int_spine__deals') }} as deals
inner join totals on deals.spine_id = totals.spine_id
cross join {{ source('settings', 'scorecard') }} as card
