-- Every point is explained: no scored account's total differs from the sum of its rows, and nobody else has rows.
with summed as (
    select
        account_id,
        sum(points) as points
    from {{ ref('score_contributions') }}
    group by account_id
)

select
    accounts.account_id,
    accounts.total_points,
    summed.points
from {{ ref('scored_accounts') }} as accounts
full outer join summed on accounts.account_id = summed.account_id
where
    (accounts.state = 'scored' and (summed.points is null or summed.points <> accounts.total_points))
    or (accounts.state <> 'scored' and summed.points is not null)
    or accounts.account_id is null
