-- What people said will be won, with the time for which it counts: from when it was recorded until it expired or was withdrawn. Of
-- several that count the newest is in force (submissions_in_force). The first withdrawal counts; it cannot itself be withdrawn. Other
-- currencies are converted at the rate of the day on which it was said.
with records as (
    select * from {{ ref('stg_scoring__forecast_submissions') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

dated as (
    select
        records.*,
        {{ currency_of('records', 'refresh') }} as said_currency,
        {{ currency_of('records', 'refresh') }} = refresh.currency as is_workspace_currency,
        cast(records.recorded_at as date) as rate_day
    from records
    cross join refresh
    where records.kind <> 'void'
),

asked as (
    select
        said_currency as currency,
        rate_day
    from dated
),

rates as (
    {{ rates_on_days('asked') }}
),

withdrawals as (
    select
        void_of,
        submission_id as withdrawn_by,
        recorded_at as withdrawn_at,
        author as withdrawn_author,
        note as withdrawn_note,
        row_number() over (partition by void_of order by recorded_at, submission_id) as withdrawal_no
    from records
    where kind = 'void'
)

select
    records.submission_id,
    records.kind,
    records.period_type,
    records.period_start,
    cast(
        case records.period_type
            when 'month' then {{ dbt.dateadd('month', 1, 'records.period_start') }}
            when 'quarter' then {{ dbt.dateadd('month', 3, 'records.period_start') }}
            else {{ dbt.dateadd('month', 12, 'records.period_start') }}
        end as date
    ) as period_end,
    records.dimension,
    records.label,
    records.said_currency as currency,
    records.amount as submitted_amount,
    {{ converted('records.amount', 'records.is_workspace_currency', 'rates.rate') }} as amount,
    records.note,
    records.author,
    records.recorded_at,
    records.expires_at,
    withdrawals.withdrawn_by,
    withdrawals.withdrawn_at,
    withdrawals.withdrawn_author,
    withdrawals.withdrawn_note,
    case
        when coalesce(withdrawals.withdrawn_at, {{ end_of_time() }}) < coalesce(records.expires_at, {{ end_of_time() }})
            then withdrawals.withdrawn_at
        else coalesce(records.expires_at, {{ end_of_time() }})
    end as ended_at
from dated as records
left join rates on records.said_currency = rates.currency and records.rate_day = rates.rate_day
left join withdrawals on records.submission_id = withdrawals.void_of and withdrawals.withdrawal_no = 1
