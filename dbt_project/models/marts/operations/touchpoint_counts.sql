select
    source,
    signal,
    match_status,
    cast(sum(touchpoint_count) as bigint) as touchpoint_count,
    min(first_occurred_at) as first_occurred_at,
    max(last_occurred_at) as last_occurred_at
from {{ ref('int_signals__daily') }}
group by source, signal, match_status
