-- From when each signal has been recorded at all: before that, its absence means nothing.
select
    signal,
    min(occurred_at) as first_occurred_at,
    count(*) as touchpoint_count,
    sum(case when match_status = 'matched' then 1 else 0 end) as matched_count
from {{ ref('int_touchpoints') }}
group by signal
