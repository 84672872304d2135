select
    scorecard_version,
    criterion,
    kind,
    cast(band_no as integer) as band_no,
    band,
    band_type,
    cast(points as bigint) as points,
    cast(expert_points as bigint) as expert_points,
    weight,
    weight_low,
    weight_high,
    cast(deal_count as bigint) as deal_count,
    cast(won_count as bigint) as won_count,
    data_share_pct
from {{ source('settings', 'scorecard_bands') }}
