select
    source,
    signal,
    match_status,
    cast(sum(touchpoint_count) as bigint) as touchpoint_count,
    min(first_occurred_at) as first_occurred_at,
    max(last_occurred_at) as last_occurred_at
from {{ ref('int_signals__daily') }}
group by source, signal, match_status

union all

select
    source,
    signal,
    'flagged' as match_status,
    count(*) as touchpoint_count,
    min(occurred_at) as first_occurred_at,
    max(occurred_at) as last_occurred_at
from {{ ref('int_touchpoints__kept') }}
where bot_reason is not null
group by source, signal
