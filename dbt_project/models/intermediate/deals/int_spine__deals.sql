-- Deals seen from the moment when they were opened. The fit learns from the won and lost ones; open ones have no outcome
-- yet (is_won is null) and are scored in the same way, so that what they do after their opening does not flatter them.
with deals as (
    select * from {{ ref('int_deals') }}
    where opened_at is not null
),

accounts as (
    select account_id from {{ ref('stg_crm__account_survivors') }}
    where surviving_account_id = account_id
),

exclusions as (
    select * from {{ source('settings', 'label_exclusions') }}
),

refresh as (
    select label_since_at from {{ source('settings', 'refresh') }}
)

select
    deals.opportunity_id as spine_id,
    deals.account_id,
    cast(null as {{ dbt.type_string() }}) as contact_id,
    deals.opened_at as as_of_at,
    cast(deals.opened_at as date) as as_of_date,
    case deals.status when 'won' then 1 when 'lost' then 0 end as is_won,
    deals.closed_at,
    deals.amount
from deals
inner join accounts on deals.account_id = accounts.account_id
cross join refresh
left join exclusions as excluded_types
    on excluded_types.field = 'deal_type' and lower(deals.deal_type) = excluded_types.value
left join exclusions as excluded_reasons
    on excluded_reasons.field = 'loss_reason' and lower(deals.loss_reason) = excluded_reasons.value
where
    excluded_types.value is null
    and excluded_reasons.value is null
    and deals.opened_at >= coalesce(refresh.label_since_at, {{ beginning_of_time() }})
