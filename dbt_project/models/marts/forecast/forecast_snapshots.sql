-- Every forecast as it was made. Settings, owners and periods may have become others since: nothing here changes.
-- Of older forecasts the sums alone, of the newest also their parts.
with forecasts as (
    select forecasts.*
    from {{ source('history', 'forecasts') }} as forecasts
    where forecasts.as_of_at <= {{ as_of_at() }}
),

newest as (
    select max(made_at) as made_at
    from forecasts
    where as_of_at = (select max(as_of_at) from forecasts)
)

select
    forecasts.forecast_id,
    forecasts.as_of_at as forecast_as_of_at,
    forecasts.made_at = newest.made_at as is_newest,
    forecasts.method_version,
    forecasts.inputs_fingerprint,
    forecasts.calibrated_on,
    forecasts.lacking,
    forecasts.method,
    forecasts.dimension,
    forecasts.label,
    forecasts.period_type,
    forecasts.period_start,
    forecasts.period_end,
    forecasts.period_label,
    forecasts.part,
    forecasts.mean_amount,
    forecasts.p02_5,
    forecasts.p05,
    forecasts.p10,
    forecasts.p25,
    forecasts.p50,
    forecasts.p75,
    forecasts.p90,
    forecasts.p95,
    forecasts.p97_5
from forecasts
cross join newest
where forecasts.part = 'total' or forecasts.made_at = newest.made_at
