-- From when each signal has been recorded at all: before that, its absence means nothing.
select
    signal,
    min(first_occurred_at) as first_occurred_at
from {{ ref('int_signals__daily') }}
group by signal
