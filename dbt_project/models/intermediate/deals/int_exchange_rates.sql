-- What currencies were worth in the workspace's, as it is known now: from a day until the day before another rate held. The workspace
-- currency itself has none: it is worth 1.
with rates as (
    select
        rates.currency,
        rates.rate_date,
        rates.rate,
        lag(rates.rate) over (partition by rates.currency order by rates.rate_date) as rate_before
    from {{ ref('stg_market__exchange_rates') }} as rates
    cross join {{ source('settings', 'refresh') }} as refresh
    where
        rates.to_currency = refresh.currency
        and rates.currency <> refresh.currency
        and rates.rate_date <= cast(refresh.as_of_at as date)
),

-- A rate that says the same again would only make more rows of everything that is converted.
changes as (
    select
        currency,
        rate_date,
        rate
    from rates
    where rate_before is null or rate_before <> rate
)

select
    currency,
    rate_date as from_date,
    lead(rate_date, 1, cast({{ end_of_time() }} as date)) over (partition by currency order by rate_date) as until_date,
    rate
from changes
