-- How long won deals stayed in a stage, as it was known at each past moment and now (the end of time): nine of ten as long or shorter. A
-- limit that knew how the deals ended that are looked at would find that those beyond it were hardly ever won.
with moments as (
    select seen_at as known_at
    from {{ source('settings', 'deal_risk_moments') }}

    union all

    select {{ end_of_time() }} as known_at
),

won_runs as (
    select
        runs.stage,
        deals.closed_at,
        {{ days_between('cast(runs.entered_at as date)', 'cast(runs.left_at as date)') }} as stay_days
    from {{ ref('int_deals__stage_runs') }} as runs
    inner join {{ ref('int_deals__watched') }} as watched on runs.opportunity_id = watched.opportunity_id
    inner join {{ ref('int_deals') }} as deals on runs.opportunity_id = deals.opportunity_id
    where deals.status = 'won' and watched.is_drawn = 1
)

select
    moments.known_at,
    won_runs.stage,
    cast(floor(percentile_cont(0.9) within group (order by won_runs.stay_days) + 0.5e0) as bigint) as limit_days,
    count(*) as run_count
from moments
inner join won_runs on moments.known_at >= won_runs.closed_at
group by moments.known_at, won_runs.stage
