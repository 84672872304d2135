-- The months, the quarters and the years each have every deal won in their time, to the cent.
with periods as (
    select
        period_type,
        min(period_start) as first_day,
        max(period_end) as end_day
    from {{ source('settings', 'target_periods') }}
    group by period_type
),

deals as (
    select
        periods.period_type,
        count(*) as deal_count,
        sum(coalesce(deals.amount, 0)) as amount
    from periods
    inner join {{ ref('int_deals') }} as deals on deals.closed_at >= periods.first_day and deals.closed_at < periods.end_day
    where deals.status = 'won'
    group by periods.period_type
),

shown as (
    select
        period_type,
        sum(won_deal_count) as deal_count,
        sum(won_amount) as amount
    from {{ ref('targets') }}
    group by period_type
)

select
    periods.period_type,
    deals.deal_count,
    shown.deal_count as shown_count
from periods
left join deals on periods.period_type = deals.period_type
left join shown on periods.period_type = shown.period_type
where
    coalesce(deals.deal_count, 0) <> coalesce(shown.deal_count, 0) or coalesce(deals.amount, 0) <> coalesce(shown.amount, 0)
