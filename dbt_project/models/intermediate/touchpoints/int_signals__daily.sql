-- Touchpoints of all kinds counted by day, also of people whom nobody knows: one look at all of them for whoever asks.
select
    source,
    signal,
    event_date,
    min(occurred_at) as first_occurred_at,
    count(*) as touchpoint_count,
    sum(case when match_status = 'matched' then 1 else 0 end) as matched_count
from {{ ref('int_touchpoints') }}
group by source, signal, event_date
