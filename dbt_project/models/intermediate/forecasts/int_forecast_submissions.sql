-- What people said will be won, with the time for which it counts: from when it was recorded until it expired or was withdrawn, and a newer
-- one says something else before that. The first withdrawal counts; it cannot itself be withdrawn.
with records as (
    select * from {{ ref('stg_scoring__forecast_submissions') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
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
    coalesce(records.currency, refresh.currency) as currency,
    records.amount as submitted_amount,
    case when coalesce(records.currency, refresh.currency) = refresh.currency then records.amount end as amount,
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
from records
cross join refresh
left join withdrawals on records.submission_id = withdrawals.void_of and withdrawals.withdrawal_no = 1
where records.kind <> 'void'
