-- Open deals whose assumed close lies within the forecast's months appear in it once, to the cent.
with periods as (
    select
        min(period_start) as first_day,
        max(period_end) as end_day
    from {{ source('settings', 'forecast_periods') }}
),

deals as (
    select
        count(*) as deal_count,
        coalesce(sum(amount), 0) as amount
    from {{ ref('scored_opportunities') }}
    cross join periods
    where assumed_close_date >= periods.first_day and assumed_close_date < periods.end_day
),

forecast as (
    select
        coalesce(sum(open_deal_count), 0) as deal_count,
        coalesce(sum(open_amount), 0) as amount
    from {{ ref('pipeline_forecast') }}
)

select *
from deals
cross join forecast
where deals.deal_count <> forecast.deal_count or deals.amount <> forecast.amount
