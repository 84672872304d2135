-- A criterion without a value is in its "missing" band, never left out.
select
    accounts.account_id,
    count(contributions.criterion) as criterion_count
from {{ ref('scored_accounts') }} as accounts
left join {{ ref('score_contributions') }} as contributions
    on accounts.account_id = contributions.account_id and contributions.kind <> 'adjustment'
where accounts.state = 'scored'
group by accounts.account_id
having count(contributions.criterion) <> (
    select count(distinct criterion_key) from {{ source('settings', 'scorecard_bands') }}
)
