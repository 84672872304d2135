select
    'touchpoint' as what,
    touchpoint_id as id
from {{ ref('int_touchpoints') }}
where occurred_at > {{ as_of_at() }} or known_at > {{ as_of_at() }}

union all

select
    'deal' as what,
    opportunity_id as id
from {{ ref('int_deals') }}
where closed_at > {{ as_of_at() }} or opened_at > {{ as_of_at() }}
