-- Which currencies deals are in, and whether there are rates for them. A deal without a rate counts, without an amount.
with deals as (
    select
        currency,
        is_workspace_currency,
        status,
        deal_amount,
        exchange_rate
    from {{ ref('int_deals') }}
),

counted as (
    select
        currency,
        max(case when is_workspace_currency then 1 else 0 end) as is_workspace,
        count(*) as deal_count,
        sum(case when status = 'open' then 1 else 0 end) as open_deal_count,
        sum(case when exchange_rate is null and deal_amount is not null then 1 else 0 end) as without_rate_count,
        sum(case when exchange_rate is null then coalesce(deal_amount, 0) else 0 end) as without_rate_amount
    from deals
    group by currency
),

rates as (
    select
        currency,
        min(from_date) as first_rate_date,
        max(from_date) as last_change_date,
        max(case when until_date = cast({{ end_of_time() }} as date) then rate end) as last_rate
    from {{ ref('int_exchange_rates') }}
    group by currency
),

-- A rate that was said again is newer than its last change.
said as (
    select
        landed.currency,
        max(landed.rate_date) as last_rate_date
    from {{ ref('stg_market__exchange_rates') }} as landed
    cross join {{ source('settings', 'refresh') }} as refresh
    where landed.to_currency = refresh.currency and landed.rate_date <= cast(refresh.as_of_at as date)
    group by landed.currency
),

currencies as (
    select currency from counted
    union
    select currency from rates
)

select
    currencies.currency,
    coalesce(counted.is_workspace, 0) = 1 as is_workspace_currency,
    cast(coalesce(counted.deal_count, 0) as bigint) as deal_count,
    cast(coalesce(counted.open_deal_count, 0) as bigint) as open_deal_count,
    cast(coalesce(counted.without_rate_count, 0) as bigint) as without_rate_count,
    cast(coalesce(counted.without_rate_amount, 0) as decimal(18, 2)) as without_rate_amount,
    rates.first_rate_date,
    said.last_rate_date,
    rates.last_rate,
    cast({{ days_between('said.last_rate_date', 'cast(refresh.as_of_at as date)') }} as bigint) as rate_age_days,
    case
        when coalesce(counted.without_rate_count, 0) = 0 then 'complete'
        when rates.first_rate_date is null then 'no rates'
        else 'rates begin too late'
    end as status,
    refresh.as_of_at
from currencies
cross join {{ source('settings', 'refresh') }} as refresh
left join counted on currencies.currency = counted.currency
left join rates on currencies.currency = rates.currency
left join said on currencies.currency = said.currency
