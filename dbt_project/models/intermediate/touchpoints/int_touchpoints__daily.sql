with touchpoints as (
    select * from {{ ref('int_touchpoints') }}
    where account_id is not null
)

select
    account_id,
    contact_id,
    signal,
    event_date,
    known_date,
    count(*) as touchpoint_count
from touchpoints
group by account_id, contact_id, signal, event_date, known_date
