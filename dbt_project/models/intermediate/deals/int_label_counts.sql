-- What there is to learn from, counted before anything is fitted. Open deals and months that have not run out are waiting: they are
-- no losses.
with deals as (
    select
        'deal_won' as target,
        case when exclusion is not null then 'excluded' when status = 'open' then 'waiting' else status end as outcome,
        coalesce(exclusion, case when status = 'open' then 'the deal is open' else 'counted' end) as reason
    from {{ ref('int_deals__labelled') }}
),

account_months as (
    select
        'account_wins' as target,
        case when is_won is null then 'waiting' when is_won = 1 then 'won' else 'lost' end as outcome,
        case when is_won is null then 'the time to win has not run out' else 'counted' end as reason
    from {{ ref('int_spine__account_months') }}
)

select
    target,
    outcome,
    reason,
    count(*) as row_count
from (
    select * from deals
    union all
    select * from account_months
) as labels
group by target, outcome, reason
