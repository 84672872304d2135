-- Each unbroken stay of a watched deal in a stage while it was open; a deal that comes back begins another one.
with spans as (
    select
        history.opportunity_id,
        history.valid_from,
        history.valid_to,
        history.stage,
        lag(history.stage) over (partition by history.opportunity_id order by history.valid_from) as stage_before,
        lag(history.valid_to) over (partition by history.opportunity_id order by history.valid_from) as ended_before_at
    from {{ ref('int_deals__history') }} as history
    inner join {{ ref('int_deals__watched') }} as watched on history.opportunity_id = watched.opportunity_id
    where history.status = 'open'
),

numbered as (
    select
        opportunity_id,
        valid_from,
        valid_to,
        stage,
        sum(case when stage = stage_before and ended_before_at = valid_from then 0 else 1 end) over (
            partition by opportunity_id order by valid_from rows between unbounded preceding and current row
        ) as run_no
    from spans
)

select
    opportunity_id,
    cast(run_no as bigint) as run_no,
    stage,
    min(valid_from) as entered_at,
    max(valid_to) as left_at
from numbered
where stage is not null
group by opportunity_id, run_no, stage
