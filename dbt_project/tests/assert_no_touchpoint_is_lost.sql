-- Touchpoints with an account are counted in the daily table, each once.
select
    counted.touchpoint_count,
    daily.touchpoint_count as daily_count
from (
    select coalesce(sum(matched_count), 0) as touchpoint_count from {{ ref('int_signals') }}
) as counted
cross join (
    select coalesce(sum(touchpoint_count), 0) as touchpoint_count from {{ ref('int_touchpoints__daily') }}
) as daily
where counted.touchpoint_count <> daily.touchpoint_count
