-- Everybody's number of a period beside everybody else's: the model, simple methods, the deals' categories, people, the target. None of
-- them changes another one. The model and the simple methods are of the newest forecast, the rest is as of now.
with refresh as (
    select * from {{ source('settings', 'refresh') }}
),

snapshots as (
    select snapshots.*
    from {{ ref('forecast_snapshots') }} as snapshots
    cross join refresh
    where snapshots.is_newest and snapshots.part = 'total' and snapshots.period_end > refresh.as_of_date
),

forecasts as (
    select
        period_type,
        period_start,
        dimension,
        label,
        max(period_end) as period_end,
        max(period_label) as period_label,
        max(forecast_as_of_at) as forecast_as_of_at,
        max(case when method = 'forecast' then p10 end) as forecast_low_amount,
        max(case when method = 'forecast' then p50 end) as forecast_amount,
        max(case when method = 'forecast' then p90 end) as forecast_high_amount,
        max(case when method = 'stage_weighted' then mean_amount end) as stage_weighted_amount,
        max(case when method = 'run_rate' then mean_amount end) as run_rate_amount,
        max(case when method = 'commit' then mean_amount end) as commit_amount,
        max(case when method = 'best_case' then mean_amount end) as best_case_amount
    from snapshots
    group by period_type, period_start, dimension, label
),

submissions as (
    select
        submissions.period_type,
        submissions.period_start,
        submissions.dimension,
        submissions.label,
        max(submissions.period_end) as period_end,
        max(submissions.period_label) as period_label,
        max(case when submissions.kind = 'commit' then submissions.amount end) as submitted_commit_amount,
        max(case when submissions.kind = 'best_case' then submissions.amount end) as submitted_best_case_amount,
        max(case when submissions.kind = 'manager' then submissions.amount end) as submitted_manager_amount,
        max(case when submissions.kind = 'override' then submissions.amount end) as override_amount,
        max(case when submissions.kind = 'override' then submissions.author end) as override_author,
        max(case when submissions.kind = 'override' then submissions.note end) as override_note,
        max(case when submissions.kind = 'override' then submissions.expires_at end) as override_expires_at
    from {{ ref('forecast_submissions') }} as submissions
    cross join refresh
    where submissions.status = 'in force' and submissions.period_end > refresh.as_of_date
    group by submissions.period_type, submissions.period_start, submissions.dimension, submissions.label
),

owner_targets as (
    select
        targets.period_type,
        targets.period_start,
        targets.period_end,
        targets.period_label,
        targets.owner_id,
        targets.team,
        targets.target_amount
    from {{ ref('targets') }} as targets
    where targets.target_amount is not null and targets.period_status <> 'over'
),

targets as (
    select
        period_type,
        period_start,
        period_end,
        period_label,
        'owner' as dimension,
        owner_id as label,
        target_amount
    from owner_targets

    union all

    select
        period_type,
        period_start,
        period_end,
        period_label,
        'team' as dimension,
        team as label,
        sum(target_amount) as target_amount
    from owner_targets
    group by period_type, period_start, period_end, period_label, team

    union all

    select
        period_type,
        period_start,
        period_end,
        period_label,
        'all' as dimension,
        'all' as label,
        sum(target_amount) as target_amount
    from owner_targets
    group by period_type, period_start, period_end, period_label
),

cells as (
    select period_type, period_start, dimension, label from forecasts
    union
    select period_type, period_start, dimension, label from submissions
    union
    select period_type, period_start, dimension, label from targets
),

periods as (
    select
        period_type,
        period_start,
        max(period_end) as period_end,
        max(period_label) as period_label
    from (
        select period_type, period_start, period_end, period_label from forecasts
        union all
        select period_type, period_start, period_end, period_label from submissions
        union all
        select period_type, period_start, period_end, period_label from targets
    ) as named
    group by period_type, period_start
),

won as (
    {{ won_in('periods') }}
),

users as (
    select * from {{ ref('stg_crm__users') }}
)

select
    cells.period_type,
    cells.period_start,
    periods.period_end,
    periods.period_label,
    cells.dimension,
    cells.label,
    case when cells.dimension = 'owner' then coalesce(users.user_name, cells.label) else cells.label end as label_name,
    cast(targets.target_amount as decimal(18, 2)) as target_amount,
    cast(coalesce(won.amount, 0) as decimal(18, 2)) as won_amount,
    cast(targets.target_amount - coalesce(won.amount, 0) as decimal(18, 2)) as gap_amount,
    forecasts.forecast_low_amount,
    forecasts.forecast_amount,
    forecasts.forecast_high_amount,
    cast(targets.target_amount - forecasts.forecast_amount as decimal(18, 2)) as forecast_gap_amount,
    forecasts.stage_weighted_amount,
    forecasts.run_rate_amount,
    forecasts.commit_amount,
    forecasts.best_case_amount,
    submissions.submitted_commit_amount,
    submissions.submitted_best_case_amount,
    submissions.submitted_manager_amount,
    submissions.override_amount,
    submissions.override_author,
    submissions.override_note,
    submissions.override_expires_at,
    forecasts.forecast_as_of_at,
    refresh.as_of_at
from cells
inner join periods on cells.period_type = periods.period_type and cells.period_start = periods.period_start
cross join refresh
left join forecasts on {{ same_cell('cells', 'forecasts') }}
left join submissions on {{ same_cell('cells', 'submissions') }}
left join targets on {{ same_cell('cells', 'targets') }}
left join won on {{ same_cell('cells', 'won') }}
left join users on cells.label = users.user_id
