select
    source,
    signal,
    match_status,
    count(*) as touchpoint_count,
    min(occurred_at) as first_occurred_at,
    max(occurred_at) as last_occurred_at
from {{ ref('int_touchpoints') }}
group by source, signal, match_status
