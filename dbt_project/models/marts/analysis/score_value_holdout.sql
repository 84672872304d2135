-- Drawn is the account, so the account is the unit: whoever is held out stays so, whatever becomes of it.
with accounts as (
    select
        account_id,
        case when is_holdout then 'held out' else 'ranked' end as account_group
    from {{ ref('int_accounts') }}
),

holdout as (
    select * from {{ source('settings', 'holdout') }}
    where share_pct > 0
),

deals as (
    select
        spine.account_id,
        spine.is_won,
        case when spine.is_won = 1 then spine.amount end as won_amount
    from {{ ref('int_spine__deals') }} as spine
    cross join holdout
    where spine.as_of_at >= holdout.since_at
),

by_account as (
    select
        account_id,
        count(*) as deal_count,
        sum(case when is_won is null then 1 else 0 end) as open_deal_count,
        sum(coalesce(is_won, 0)) as won_count,
        sum(won_amount) as won_amount
    from deals
    group by account_id
),

counted as (
    select
        accounts.account_group,
        count(*) as account_count,
        count(by_account.account_id) as account_with_deal_count,
        cast(sum(case when by_account.won_count > 0 then 1 else 0 end) as bigint) as winning_account_count,
        cast(coalesce(sum(by_account.deal_count), 0) as bigint) as deal_count,
        cast(coalesce(sum(by_account.open_deal_count), 0) as bigint) as open_deal_count,
        cast(coalesce(sum(by_account.won_count), 0) as bigint) as won_count,
        cast(coalesce(sum(by_account.won_amount), 0) as decimal(18, 2)) as won_amount
    from accounts
    left join by_account on accounts.account_id = by_account.account_id
    group by accounts.account_group
)

select
    holdout.holdout_name,
    counted.account_group,
    holdout.since_at,
    counted.account_count,
    counted.account_with_deal_count,
    counted.winning_account_count,
    cast(1.0 * counted.winning_account_count / counted.account_count as double) as winning_account_rate,
    cast({{ wilson('counted.winning_account_count', 'counted.account_count', -1) }} as double) as winning_account_rate_low,
    cast({{ wilson('counted.winning_account_count', 'counted.account_count', 1) }} as double) as winning_account_rate_high,
    counted.deal_count,
    counted.open_deal_count,
    counted.won_count,
    cast(1.0 * counted.won_count / nullif(counted.deal_count - counted.open_deal_count, 0) as double) as win_rate,
    cast({{ wilson('counted.won_count', '(counted.deal_count - counted.open_deal_count)', -1) }} as double) as win_rate_low,
    cast({{ wilson('counted.won_count', '(counted.deal_count - counted.open_deal_count)', 1) }} as double) as win_rate_high,
    counted.won_amount,
    cast(
        cast(counted.won_amount as double) / counted.account_count as decimal(18, 2)
    ) as won_amount_per_account
from counted
cross join holdout
