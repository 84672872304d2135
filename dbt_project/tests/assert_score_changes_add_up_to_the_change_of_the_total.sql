-- Between two rows of an account's history its total changes by the sum of its changes of that day, to the point.
with steps as (
    select
        account_id,
        from_date,
        coalesce(total_points, 0)
        - coalesce(lag(total_points) over (partition by account_id order by from_date), 0) as change_points,
        row_number() over (partition by account_id order by from_date) as run_no
    from {{ ref('score_history') }}
),

first_day as (
    select min(record_date) as record_date from {{ ref('score_days') }}
),

changes as (
    select
        account_id,
        change_date,
        sum(change_points) as change_points
    from {{ ref('score_changes') }}
    group by account_id, change_date
)

select
    coalesce(steps.account_id, changes.account_id) as account_id,
    coalesce(steps.from_date, changes.change_date) as change_date,
    steps.change_points,
    changes.change_points as explained_points
from steps
full outer join changes on steps.account_id = changes.account_id and steps.from_date = changes.change_date
cross join first_day
where
    coalesce(changes.change_points, 0) <> coalesce(steps.change_points, 0)
    and coalesce(steps.from_date, changes.change_date) > first_day.record_date
