with deals as (
    select
        closed.*,
        cast(floor(closed.total_points / 20.0) * 20 as bigint) as points_from
    from {{ ref('int_deals__scored') }} as closed
    where closed.is_won is not null
),

overall as (
    select 1.0 * sum(is_won) / nullif(count(*), 0) as win_rate
    from deals
),

counted as (
    select
        points_from,
        count(*) as deal_count,
        cast(sum(case when is_out_of_fold then 1 else 0 end) as bigint) as out_of_fold_count,
        cast(sum(is_won) as bigint) as won_count,
        -- In billionths: the mean of floats would depend on the order of the rows.
        cast(sum(cast(floor(win_probability * 1000000000 + 0.5) as bigint)) as bigint) as expected_nano
    from deals
    group by points_from
)

select
    counted.points_from,
    counted.points_from + 20 as points_below,
    counted.deal_count,
    counted.out_of_fold_count,
    counted.won_count,
    cast(1.0 * counted.won_count / counted.deal_count as double) as win_rate,
    cast({{ wilson('counted.won_count', 'counted.deal_count', -1) }} as double) as win_rate_low,
    cast({{ wilson('counted.won_count', 'counted.deal_count', 1) }} as double) as win_rate_high,
    cast(1.0 * counted.won_count / counted.deal_count / nullif(overall.win_rate, 0) as double) as lift,
    cast(counted.expected_nano / 1000000000.0 / counted.deal_count as double) as expected_win_rate,
    card.scorecard_version
from counted
cross join overall
cross join {{ source('settings', 'scorecard') }} as card
