-- What people said, all of it, with what became of it.
with submissions as (
    select * from {{ ref('int_forecast_submissions') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

moments as (
    select distinct
        refresh.as_of_at as seen_at,
        submissions.period_type,
        submissions.period_start,
        submissions.dimension,
        submissions.label
    from submissions
    cross join refresh
),

in_force as (
    {{ submissions_in_force('moments') }}
),

periods as (
    select * from {{ source('settings', 'target_periods') }}
),

users as (
    select * from {{ ref('stg_crm__users') }}
)

select
    submissions.submission_id,
    submissions.kind,
    submissions.period_type,
    submissions.period_start,
    submissions.period_end,
    coalesce(periods.period_label, cast(submissions.period_start as {{ dbt.type_string() }})) as period_label,
    submissions.dimension,
    submissions.label,
    case when submissions.dimension = 'owner' then coalesce(users.user_name, submissions.label) else submissions.label end
        as label_name,
    submissions.amount,
    submissions.currency,
    submissions.submitted_amount,
    case
        when in_force.submission_id is not null then 'in force'
        when submissions.withdrawn_at <= refresh.as_of_at and submissions.withdrawn_at = submissions.ended_at then 'withdrawn'
        when submissions.expires_at <= refresh.as_of_at then 'expired'
        else 'replaced'
    end as status,
    submissions.author,
    submissions.note,
    submissions.recorded_at,
    submissions.expires_at,
    submissions.withdrawn_by,
    submissions.withdrawn_at,
    submissions.withdrawn_author,
    submissions.withdrawn_note,
    refresh.as_of_at
from submissions
cross join refresh
left join in_force on submissions.submission_id = in_force.submission_id
left join periods on submissions.period_type = periods.period_type and submissions.period_start = periods.period_start
left join users on submissions.label = users.user_id
