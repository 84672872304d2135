-- Touchpoints with an account are counted in the daily table, each once, also after many corrections of the counts.
select
    counted.touchpoint_count,
    daily.touchpoint_count as daily_count
from (
    select count(*) as touchpoint_count from {{ ref('int_touchpoints') }}
    where account_id is not null
) as counted
cross join (
    select coalesce(sum(touchpoint_count), 0) as touchpoint_count from {{ ref('int_touchpoints__daily') }}
) as daily
where counted.touchpoint_count <> daily.touchpoint_count
