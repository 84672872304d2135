-- What counts: all that reads touchpoints reads them here.
select
    source,
    touchpoint_key,
    touchpoint_id,
    signal,
    occurred_at,
    event_date,
    known_at,
    known_date,
    visitor_id,
    contact_id,
    account_id,
    campaign_id,
    match_status
from {{ ref('int_touchpoints__kept') }}
where bot_reason is null
