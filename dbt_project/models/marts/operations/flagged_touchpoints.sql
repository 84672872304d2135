select
    source,
    touchpoint_id,
    signal,
    occurred_at,
    contact_id,
    account_id,
    bot_reason as reason
from {{ ref('int_touchpoints__kept') }}
where bot_reason is not null
