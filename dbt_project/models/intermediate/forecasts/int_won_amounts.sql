-- Every won deal once per dimension that forecasts are made by, so that what came can be summed like what was said.
with won as (
    select
        coalesce(deals.owner_id, '(none)') as owner,
        coalesce(users.team, '(none)') as team,
        coalesce(deals.product, '(none)') as product,
        account_groups.region,
        account_groups.segment,
        cast(deals.closed_at as date) as closed_date,
        deals.amount
    from {{ ref('int_deals') }} as deals
    inner join {{ ref('int_accounts__groups') }} as account_groups
        on coalesce(deals.account_id, '(none)') = account_groups.account_id and account_groups.valid_to > {{ as_of_at() }}
    left join {{ ref('stg_crm__users') }} as users on deals.owner_id = users.user_id
    where deals.status = 'won' and deals.amount is not null
)

select
    'all' as dimension,
    'all' as label,
    closed_date,
    amount
from won

union all

select
    'owner' as dimension,
    owner as label,
    closed_date,
    amount
from won

union all

select
    'team' as dimension,
    team as label,
    closed_date,
    amount
from won

union all

select
    'product' as dimension,
    product as label,
    closed_date,
    amount
from won

union all

select
    'region' as dimension,
    region as label,
    closed_date,
    amount
from won

union all

select
    'segment' as dimension,
    segment as label,
    closed_date,
    amount
from won
