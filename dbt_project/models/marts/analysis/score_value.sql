{#
    What ranking is worth: of past deals, how many wins lie in the share that is worked first? The deals of a quarter compete
    with each other, as they did for the sellers' time; without that, an order by date would only measure the year.
#}
with deals as (
    select
        scored.opportunity_id,
        scored.total_points,
        scored.opened_at,
        scored.is_won,
        cast(coalesce(scored.amount, 0) * 100 as bigint) as amount_cent,
        cast({{ dbt.date_trunc('quarter', 'scored.opened_at') }} as date) as quarter_start_date,
        -- Equal deals are worked in an order that has to do with nothing.
        {{ dbt.hash('scored.opportunity_id') }} as draw
    from {{ ref('int_deals__scored') }} as scored
    where scored.is_won is not null
),

effort as (
    select * from {{ source('settings', 'effort') }}
),

placed as (
    select
        deals.*,
        count(*) over (partition by deals.quarter_start_date) as quarter_deal_count,
        row_number() over (partition by deals.quarter_start_date order by deals.total_points desc, deals.draw) as card_place,
        row_number() over (
            partition by deals.quarter_start_date
            order by
                case when effort.order_of_work = 'newest_first' then deals.opened_at end desc nulls last,
                case when effort.order_of_work = 'oldest_first' then deals.opened_at end nulls last,
                case when effort.order_of_work = 'largest_first' then deals.amount_cent end desc nulls last,
                deals.draw
        ) as order_place
    from deals
    cross join effort
),

-- The least tenth of the quarter in which a deal is worked: its middle lies within.
tenths as (
    select
        'card' as ranking,
        quarter_start_date,
        quarter_deal_count,
        {{ integer_divide('(2 * card_place - 1) * 5 + quarter_deal_count - 1', 'quarter_deal_count') }} as tenth,
        is_won,
        amount_cent
    from placed

    union all

    select
        'order_of_work' as ranking,
        quarter_start_date,
        quarter_deal_count,
        {{ integer_divide('(2 * order_place - 1) * 5 + quarter_deal_count - 1', 'quarter_deal_count') }} as tenth,
        is_won,
        amount_cent
    from placed
),

by_quarter as (
    select
        ranking,
        quarter_start_date,
        quarter_deal_count,
        tenth,
        count(*) as deal_count,
        sum(is_won) as won_count,
        sum(case when is_won = 1 then amount_cent else 0 end) as won_cent
    from tenths
    group by ranking, quarter_start_date, quarter_deal_count, tenth
),

quarters as (
    select
        quarter_start_date,
        sum(is_won) as won_count,
        sum(case when is_won = 1 then amount_cent else 0 end) as won_cent
    from deals
    group by quarter_start_date
),

shares as (
    {%- for tenth in range(1, 11) %}
    select {{ tenth }} as tenth
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

worked_by_quarter as (
    select
        by_quarter.ranking,
        by_quarter.quarter_start_date,
        by_quarter.quarter_deal_count,
        shares.tenth,
        sum(by_quarter.deal_count) as deal_count,
        sum(by_quarter.won_count) as won_count,
        sum(by_quarter.won_cent) as won_cent
    from shares
    inner join by_quarter on shares.tenth >= by_quarter.tenth
    group by by_quarter.ranking, by_quarter.quarter_start_date, by_quarter.quarter_deal_count, shares.tenth
),

-- Drawn at random as many deals of each quarter win as their share of it, in thousandths of a deal.
cumulated as (
    select
        ranking,
        tenth,
        cast(sum(deal_count) as bigint) as worked_count,
        cast(sum(won_count * 1000) as bigint) as won_milli,
        cast(sum(won_cent) as bigint) as won_cent
    from worked_by_quarter
    group by ranking, tenth

    union all

    select
        'random' as ranking,
        worked.tenth,
        cast(sum(worked.deal_count) as bigint) as worked_count,
        cast(sum({{ integer_divide('quarters.won_count * worked.deal_count * 1000', 'worked.quarter_deal_count') }}) as bigint)
            as won_milli,
        cast(sum({{ integer_divide('quarters.won_cent * worked.deal_count', 'worked.quarter_deal_count') }}) as bigint)
            as won_cent
    from worked_by_quarter as worked
    inner join quarters on worked.quarter_start_date = quarters.quarter_start_date
    where worked.ranking = 'card'
    group by worked.tenth
),

totals as (
    select
        count(*) as deal_count,
        cast(sum(is_won) as bigint) as won_count,
        sum(case when is_won = 1 then amount_cent else 0 end) as won_cent
    from deals
)

select
    cumulated.ranking,
    case when cumulated.ranking = 'order_of_work' then effort.order_of_work else cumulated.ranking end as order_of_work,
    cumulated.tenth * 10 as worked_pct,
    totals.deal_count,
    cumulated.worked_count,
    cast(cumulated.won_milli * cast(0.001 as decimal(4, 3)) as decimal(18, 3)) as won_deals,
    cast(cumulated.won_cent * cast(0.01 as decimal(3, 2)) as decimal(18, 2)) as won_amount,
    cast(cumulated.won_milli as double) / 10 / nullif(totals.won_count, 0) as captured_wins_pct,
    cast(cumulated.won_cent as double) * 100 / nullif(totals.won_cent, 0) as captured_amount_pct,
    case
        when cumulated.ranking <> 'random' then
            cast({{ wilson(integer_divide('cumulated.won_milli', '1000'), 'cumulated.worked_count', -1) }} as double)
    end as win_rate_low,
    case
        when cumulated.ranking <> 'random' then
            cast({{ wilson(integer_divide('cumulated.won_milli', '1000'), 'cumulated.worked_count', 1) }} as double)
    end as win_rate_high,
    cast(cumulated.worked_count * effort.hours_per_account as decimal(18, 2)) as effort_hours,
    cast(cumulated.won_milli as double) / nullif(cast(cumulated.worked_count * effort.hours_per_account * 1000 as double), 0)
        as wins_per_hour,
    cast(
        cast(cumulated.won_cent as double) / nullif(cast(cumulated.worked_count * effort.hours_per_account * 100 as double), 0)
        as decimal(18, 2)
    ) as amount_per_hour,
    card.scorecard_version
from cumulated
cross join totals
cross join effort
cross join {{ source('settings', 'scorecard') }} as card
