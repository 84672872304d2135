with deals as (
    select
        points.criterion,
        points.kind,
        points.band_no,
        points.band,
        cast({{ dbt.date_trunc('quarter', 'spine.closed_at') }} as date) as quarter_start_date,
        spine.is_won
    from {{ ref('int_deals__points') }} as points
    inner join {{ ref('int_spine__deals') }} as spine on points.spine_id = spine.spine_id
    where spine.is_won is not null and spine.closed_at is not null
),

counted as (
    select
        criterion,
        kind,
        band_no,
        band,
        quarter_start_date,
        count(*) as deal_count,
        cast(sum(is_won) as bigint) as won_count
    from deals
    group by criterion, kind, band_no, band, quarter_start_date
),

compared as (
    select
        counted.*,
        sum(deal_count) over (partition by criterion, quarter_start_date) as all_deal_count,
        sum(won_count) over (partition by criterion, quarter_start_date) as all_won_count
    from counted
)

select
    compared.criterion,
    compared.kind,
    cast(compared.band_no as integer) as band_no,
    compared.band,
    compared.quarter_start_date,
    compared.deal_count,
    compared.won_count,
    cast(1.0 * compared.won_count / compared.deal_count as double) as win_rate,
    cast({{ wilson('compared.won_count', 'compared.deal_count', -1) }} as double) as win_rate_low,
    cast({{ wilson('compared.won_count', 'compared.deal_count', 1) }} as double) as win_rate_high,
    cast(
        1.0 * compared.won_count * compared.all_deal_count / compared.deal_count / nullif(compared.all_won_count, 0)
        as double
    ) as lift,
    card.scorecard_version
from compared
cross join {{ source('settings', 'scorecard') }} as card
