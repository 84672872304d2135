-- From when each signal has been recorded at all: before that, its absence means nothing.
select
    signal,
    min(first_occurred_at) as first_occurred_at,
    cast(sum(touchpoint_count) as bigint) as touchpoint_count,
    cast(sum(case when match_status = 'matched' then touchpoint_count else 0 end) as bigint) as matched_count
from {{ ref('int_signals__daily') }}
group by signal
