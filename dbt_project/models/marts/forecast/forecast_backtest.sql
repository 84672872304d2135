-- What the forecast would have said at past moments, fitted on what was known then alone, beside what came and beside simple methods:
-- the backtest that reaches furthest up to the as-of moment, of those the one made last. One of a later moment is not seen. An interval
-- is calibrated on earlier moments than its own.
with backtests as (
    select * from {{ source('history', 'forecast_backtests') }}
),

reached as (
    select
        backtest_id,
        made_at,
        max(origin_at) as last_origin_at,
        max({{ dbt.dateadd('day', 'horizon_days', 'origin_at') }}) as last_window_end_at
    from backtests
    group by backtest_id, made_at
),

ranked as (
    select
        backtest_id,
        row_number() over (order by last_origin_at desc nulls last, made_at desc nulls last, backtest_id) as newest_first
    from reached
    where last_window_end_at <= {{ as_of_at() }}
),

tests as (
    select backtests.*
    from backtests
    inner join ranked on backtests.backtest_id = ranked.backtest_id and ranked.newest_first = 1
    where backtests.point_amount is not null
)

select
    tests.backtest_id,
    tests.method_version,
    tests.origin_at,
    tests.horizon_days,
    tests.dimension,
    tests.label,
    tests.method,
    tests.origins_before,
    tests.point_amount,
    tests.actual_amount,
    tests.p02_5,
    tests.p05,
    tests.p10,
    tests.p25,
    tests.p50,
    tests.p75,
    tests.p90,
    tests.p95,
    tests.p97_5,
    cast(abs(tests.point_amount - tests.actual_amount) as decimal(18, 2)) as absolute_error_amount,
    cast((
        {{ pinball('tests.actual_amount', 'tests.p02_5', 0.025) }}
        + {{ pinball('tests.actual_amount', 'tests.p05', 0.05) }}
        + {{ pinball('tests.actual_amount', 'tests.p10', 0.1) }}
        + {{ pinball('tests.actual_amount', 'tests.p25', 0.25) }}
        + {{ pinball('tests.actual_amount', 'tests.p50', 0.5) }}
        + {{ pinball('tests.actual_amount', 'tests.p75', 0.75) }}
        + {{ pinball('tests.actual_amount', 'tests.p90', 0.9) }}
        + {{ pinball('tests.actual_amount', 'tests.p95', 0.95) }}
        + {{ pinball('tests.actual_amount', 'tests.p97_5', 0.975) }}
    ) / 9 as decimal(18, 2)) as pinball_amount,
    tests.actual_amount >= tests.p25 and tests.actual_amount <= tests.p75 as is_within_50,
    tests.actual_amount >= tests.p10 and tests.actual_amount <= tests.p90 as is_within_80,
    tests.actual_amount >= tests.p02_5 and tests.actual_amount <= tests.p97_5 as is_within_95
from tests
