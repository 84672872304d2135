-- Whether and when each open deal is won, by the newest forecast that knew it.
with forecasts as (
    select
        deals.*,
        row_number() over (
            partition by deals.opportunity_id order by deals.as_of_at desc nulls last, deals.made_at desc nulls last
        ) as newest_first
    from {{ source('history', 'forecast_deals') }} as deals
    where deals.as_of_at <= {{ as_of_at() }}
)

select
    deals.opportunity_id,
    deals.opportunity_name,
    deals.account_id,
    deals.owner_id,
    deals.stage,
    deals.amount,
    deals.expected_close_date,
    forecasts.win_probability,
    forecasts.loss_probability,
    forecasts.won_this_month_probability,
    forecasts.won_this_quarter_probability,
    forecasts.won_next_quarter_probability,
    forecasts.close_date_low,
    forecasts.close_date,
    forecasts.close_date_high,
    forecasts.slip_probability,
    forecasts.forecast_id,
    forecasts.as_of_at as forecast_as_of_at
from forecasts
inner join {{ ref('int_deals') }} as deals on forecasts.opportunity_id = deals.opportunity_id
where forecasts.newest_first = 1 and deals.status = 'open'
