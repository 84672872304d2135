-- Deals seen from the moment when they were opened. The fit learns from the won and lost ones; open ones have no outcome
-- yet (is_won is null) and are scored in the same way, so that what they do after their opening does not flatter them.
select
    opportunity_id as spine_id,
    account_id,
    cast(null as {{ dbt.type_string() }}) as contact_id,
    opened_at as as_of_at,
    cast(opened_at as date) as as_of_date,
    case status when 'won' then 1 when 'lost' then 0 end as is_won,
    closed_at,
    amount
from {{ ref('int_deals__labelled') }}
where exclusion is null
