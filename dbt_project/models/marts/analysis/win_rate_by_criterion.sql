with deals as (
    select
        points.criterion,
        points.kind,
        points.band_no,
        points.band,
        points.points,
        spine.is_won
    from {{ ref('int_deals__points') }} as points
    inner join {{ ref('int_spine__deals') }} as spine on points.spine_id = spine.spine_id
    where spine.is_won is not null
),

overall as (
    select 1.0 * sum(is_won) / nullif(count(is_won), 0) as win_rate
    from {{ ref('int_spine__deals') }}
),

counted as (
    select
        criterion,
        kind,
        band_no,
        band,
        points,
        count(*) as deal_count,
        cast(sum(is_won) as bigint) as won_count
    from deals
    group by criterion, kind, band_no, band, points
)

select
    counted.criterion,
    counted.kind,
    cast(counted.band_no as integer) as band_no,
    counted.band,
    counted.points,
    counted.deal_count,
    counted.won_count,
    cast(1.0 * counted.won_count / counted.deal_count as double) as win_rate,
    cast({{ wilson('counted.won_count', 'counted.deal_count', -1) }} as double) as win_rate_low,
    cast({{ wilson('counted.won_count', 'counted.deal_count', 1) }} as double) as win_rate_high,
    cast(1.0 * counted.won_count / counted.deal_count / nullif(overall.win_rate, 0) as double) as lift,
    card.scorecard_version
from counted
cross join overall
cross join {{ source('settings', 'scorecard') }} as card
