-- How right every forecast of a period that is over was, whoever made it. What came is read from the deals as they are now.
with snapshots as (
    select * from {{ ref('forecast_snapshots') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

ended as (
    select snapshots.*
    from snapshots
    cross join refresh
    where snapshots.part = 'total' and snapshots.period_end <= refresh.as_of_date
),

periods as (
    select distinct
        period_type,
        period_start,
        period_end
    from ended
),

came as (
    {{ won_in('periods') }}
),

-- People are asked when the model was: what they had said by the moment of the forecast, and had not withdrawn.
asked as (
    select distinct
        forecast_as_of_at as seen_at,
        period_type,
        period_start,
        dimension,
        label
    from ended
),

submissions as (
    {{ submissions_in_force('asked') }}
),

cells as (
    select
        forecast_id,
        forecast_as_of_at,
        dimension,
        label,
        period_type,
        period_start,
        period_end,
        period_label
    from ended
    where method = 'forecast'
),

said as (
    select
        forecast_id,
        forecast_as_of_at,
        method,
        dimension,
        label,
        period_type,
        period_start,
        period_end,
        period_label,
        coalesce(p50, mean_amount) as amount,
        p10,
        p90
    from ended

    union all

    select
        cells.forecast_id,
        cells.forecast_as_of_at,
        case submissions.kind when 'override' then 'override' else 'submitted_' || submissions.kind end as method,
        cells.dimension,
        cells.label,
        cells.period_type,
        cells.period_start,
        cells.period_end,
        cells.period_label,
        submissions.amount,
        null as p10,
        null as p90
    from cells
    inner join submissions on cells.forecast_as_of_at = submissions.seen_at and {{ same_cell('cells', 'submissions') }}
    where submissions.amount is not null
),

compared as (
    select
        said.*,
        {{ days_between('cast(said.forecast_as_of_at as date)', 'said.period_end') }} as horizon_days,
        coalesce(came.amount, 0) as actual_amount
    from said
    left join came on {{ same_cell('said', 'came') }}
),

-- The last forecast of a period before each horizon is the one that is compared from period to period.
stood as (
    select
        compared.*,
        case
            when horizon_days >= 90 then 90
            when horizon_days >= 30 then 30
            when horizon_days >= 7 then 7
        end as horizon,
        min(abs(amount - actual_amount)) over (
            partition by forecast_id, dimension, label, period_type, period_start
        ) as least_error
    from compared
),

last_ones as (
    select
        stood.*,
        row_number() over (
            partition by method, dimension, label, period_type, period_start, horizon
            order by forecast_as_of_at desc nulls last, forecast_id desc nulls last
        ) as latest_first
    from stood
)

select
    forecast_id,
    forecast_as_of_at,
    method,
    dimension,
    label,
    period_type,
    period_start,
    period_end,
    period_label,
    cast(horizon_days as bigint) as horizon_days,
    cast(case when latest_first = 1 then horizon end as bigint) as standing_horizon_days,
    cast(amount as decimal(18, 2)) as forecast_amount,
    p10,
    p90,
    cast(actual_amount as decimal(18, 2)) as actual_amount,
    cast(amount - actual_amount as decimal(18, 2)) as error_amount,
    case when p10 is not null then actual_amount >= p10 and actual_amount <= p90 end as is_within_80,
    abs(amount - actual_amount) = least_error as is_closest
from last_ones
