-- The fold: in the order of what happened, "set" begins a balance anew and everything else that counts adds to it.
with numbered as (
    select
        entries.*,
        row_number() over (
            partition by subject_kind, subject_id order by occurred_at, recorded_at, ledger_id
        ) as entry_no
    from {{ ref('int_ledger__entries') }} as entries
),

since_set as (
    select
        numbered.*,
        coalesce(
            max(case when operation = 'set' and entry_status = 'counts' then entry_no end) over (
                partition by subject_kind, subject_id
                order by entry_no
                rows between unbounded preceding and current row
            ),
            0
        ) as set_no
    from numbered
),

folded as (
    select
        since_set.*,
        cast(
            sum(
                case
                    when entry_status <> 'counts' then 0
                    when operation = 'subtract' then -points
                    else points
                end
            ) over (
                partition by subject_kind, subject_id, set_no
                order by entry_no
                rows between unbounded preceding and current row
            ) as bigint
        ) as balance_after,
        sum(case when entry_status = 'counts' then 1 else 0 end) over (
            partition by subject_kind, subject_id, set_no
            order by entry_no
            rows between unbounded preceding and current row
        ) as operation_count
    from since_set
)

select
    folded.*,
    balance_after - coalesce(
        lag(balance_after) over (partition by subject_kind, subject_id order by entry_no), 0
    ) as points_applied
from folded
