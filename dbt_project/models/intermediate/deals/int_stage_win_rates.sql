-- Of the closed deals that were ever seen in a stage, how many were won. Ten deals at the overall rate stand in for what a
-- stage has not yet shown.
with closed as (
    select
        opportunity_id,
        case when status = 'won' then 1 else 0 end as is_won
    from {{ ref('int_deals') }}
    where status in ('won', 'lost')
),

overall as (
    select
        count(*) as deal_count,
        coalesce(1.0 * sum(is_won) / nullif(count(*), 0), 0.25) as win_rate
    from closed
),

open_stages as (
    select distinct stage from {{ ref('int_deals') }}
    where status = 'open' and stage is not null
),

reached as (
    select distinct
        changes.opportunity_id,
        changes.stage
    from {{ ref('stg_crm__opportunity_stage_changes') }} as changes
    where changes.changed_at <= {{ as_of_at() }}
),

counted as (
    select
        reached.stage,
        count(*) as deal_count,
        sum(closed.is_won) as won_count
    from reached
    inner join closed on reached.opportunity_id = closed.opportunity_id
    group by reached.stage
)

select
    open_stages.stage,
    coalesce(counted.deal_count, 0) as deal_count,
    coalesce(counted.won_count, 0) as won_count,
    (coalesce(counted.won_count, 0) + 10 * overall.win_rate) / (coalesce(counted.deal_count, 0) + 10) as win_rate
from open_stages
cross join overall
left join counted on open_stages.stage = counted.stage
