with deals as (
    select
        points.segment,
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
        segment,
        criterion,
        kind,
        band_no,
        band,
        points,
        count(*) as deal_count,
        cast(sum(is_won) as bigint) as won_count
    from deals
    group by segment, criterion, kind, band_no, band, points
),

-- Beside each band all deals of its criterion and segment, with their mean points.
compared as (
    select
        counted.*,
        sum(deal_count) over (partition by segment, criterion) as all_deal_count,
        sum(won_count) over (partition by segment, criterion) as all_won_count,
        cast(sum(points * deal_count) over (partition by segment, criterion) as double)
        / sum(deal_count) over (partition by segment, criterion) as mean_points
    from counted
)

select
    compared.segment,
    compared.criterion,
    compared.kind,
    cast(compared.band_no as integer) as band_no,
    compared.band,
    compared.points,
    compared.deal_count,
    compared.won_count,
    cast(1.0 * compared.won_count / compared.deal_count as double) as win_rate,
    cast({{ wilson('compared.won_count', 'compared.deal_count', -1) }} as double) as win_rate_low,
    cast({{ wilson('compared.won_count', 'compared.deal_count', 1) }} as double) as win_rate_high,
    cast(1.0 * compared.won_count / compared.deal_count / nullif(overall.win_rate, 0) as double) as lift,
    -- Half a deal on either side keeps the odds of a band without wins, or without losses, finite (Haldane, Anscombe 1956).
    (cast(compared.won_count as double) + 0.5e0) / (compared.deal_count - compared.won_count + 0.5e0)
    / (
        (cast(compared.all_won_count as double) + 0.5e0)
        / (compared.all_deal_count - compared.all_won_count + 0.5e0)
    ) as raw_odds_ratio,
    -- ln(2) / 20 per point.
    exp((compared.points - compared.mean_points) * 0.034657359027997264e0) as adjusted_odds_ratio,
    card.scorecard_version
from compared
cross join overall
cross join {{ source('settings', 'scorecard') }} as card
