-- Every deal with a value: its own amount, or else what won deals like it brought.
with deals as (
    select * from {{ ref('int_deals') }}
),

won as (
    select
        product,
        amount
    from deals
    where status = 'won' and amount is not null
),

won_by_product as (
    select
        product,
        cast(avg(amount) as decimal(18, 2)) as mean_amount,
        count(*) as won_deal_count
    from won
    where product is not null
    group by product
),

won_overall as (
    select cast(avg(amount) as decimal(18, 2)) as mean_amount
    from won
),

products as (
    select
        product,
        list_price
    from {{ ref('stg_crm__products') }}
),

cycle as (
    select
        cast(
            percentile_cont(0.5) within group (
                order by {{ days_between('cast(opened_at as date)', 'cast(closed_at as date)') }}
            ) as integer
        ) as median_cycle_days
    from deals
    where status = 'won' and opened_at is not null
)

select
    deals.*,
    cast(
        case
            when deals.amount is not null then deals.amount
            -- Ten won deals of a product say more than its list price.
            when won_by_product.won_deal_count >= 10 then won_by_product.mean_amount
            when products.list_price is not null then products.list_price
            else coalesce(won_by_product.mean_amount, won_overall.mean_amount)
        end as decimal(18, 2)
    ) as value_amount,
    case
        when deals.amount is not null then 'crm'
        when won_by_product.won_deal_count >= 10 then 'mean won amount of the product'
        when products.list_price is not null then 'list price'
        when coalesce(won_by_product.mean_amount, won_overall.mean_amount) is not null then 'mean won amount'
        else 'unknown'
    end as value_source,
    coalesce(cycle.median_cycle_days, 90) as median_cycle_days
from deals
cross join won_overall
cross join cycle
left join won_by_product on deals.product = won_by_product.product
left join products on deals.product = products.product
