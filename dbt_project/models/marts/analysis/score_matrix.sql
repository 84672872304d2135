with cells as (
    select * from {{ source('settings', 'matrix_actions') }}
),

accounts as (
    select
        cell,
        count(*) as account_count
    from {{ ref('scored_accounts') }}
    where cell is not null
    group by cell
),

deals as (
    select
        cell,
        count(*) as deal_count,
        cast(sum(case when is_out_of_fold then 1 else 0 end) as bigint) as out_of_fold_count,
        cast(sum(is_won) as bigint) as won_count
    from {{ ref('int_deals__scored') }}
    where is_won is not null
    group by cell
),

handed_over as (
    select
        cell,
        count(*) as handoff_count,
        cast(sum(case when feedback = 'accepted' then 1 else 0 end) as bigint) as accepted_count,
        cast(sum(case when feedback = 'sent_back' then 1 else 0 end) as bigint) as sent_back_count
    from {{ ref('handoffs') }}
    group by cell
)

select
    cells.cell,
    cells.next_action,
    coalesce(accounts.account_count, 0) as account_count,
    coalesce(deals.deal_count, 0) as deal_count,
    coalesce(deals.out_of_fold_count, 0) as out_of_fold_count,
    coalesce(deals.won_count, 0) as won_count,
    cast(1.0 * deals.won_count / deals.deal_count as double) as win_rate,
    cast({{ wilson('deals.won_count', 'deals.deal_count', -1) }} as double) as win_rate_low,
    cast({{ wilson('deals.won_count', 'deals.deal_count', 1) }} as double) as win_rate_high,
    coalesce(handed_over.handoff_count, 0) as handoff_count,
    coalesce(handed_over.accepted_count, 0) as accepted_count,
    coalesce(handed_over.sent_back_count, 0) as sent_back_count
from cells
left join accounts on cells.cell = accounts.cell
left join deals on cells.cell = deals.cell
left join handed_over on cells.cell = handed_over.cell
