-- Of each comparison, owner, product, region, segment and promised month: the amounts at both moments are those that the history of deals has, and the
-- changes lead from one to the other. Each deal is in one bucket, and leaves as often as it arrives.
with changes as (
    select * from {{ ref('pipeline_changes') }}
),

comparisons as (
    select * from {{ source('settings', 'pipeline_comparisons') }}
),

history as (
    select
        valid_from,
        valid_to,
        coalesce(account_id, '(none)') as account_key,
        coalesce(owner_id, '(none)') as owner_id,
        coalesce(product, '(none)') as product,
        cast({{ dbt.date_trunc('month', 'expected_close_date') }} as date) as close_month,
        coalesce(amount, 0) as amount
    from {{ ref('int_deals__history') }}
    where status = 'open' and valid_to > (select min(comparisons.start_at) from comparisons)
),

sums as (
    select
        comparison,
        owner_id,
        product,
        region,
        segment,
        close_month,
        start_count as start_deals,
        end_count as end_deals,
        start_amount,
        end_amount,
        start_amount + change_amount - end_amount as difference
    from changes

    union all

    select
        comparisons.comparison,
        history.owner_id,
        history.product,
        account_groups.region,
        account_groups.segment,
        history.close_month,
        -1 as start_deals,
        0 as end_deals,
        -history.amount as start_amount,
        0 as end_amount,
        0 as difference
    from comparisons
    inner join history on comparisons.start_at >= history.valid_from and comparisons.start_at < history.valid_to
    inner join {{ ref('int_accounts__groups') }} as account_groups
        on
            history.account_key = account_groups.account_id
            and comparisons.start_at >= account_groups.valid_from
            and comparisons.start_at < account_groups.valid_to

    union all

    select
        comparisons.comparison,
        history.owner_id,
        history.product,
        account_groups.region,
        account_groups.segment,
        history.close_month,
        0 as start_deals,
        -1 as end_deals,
        0 as start_amount,
        -history.amount as end_amount,
        0 as difference
    from comparisons
    inner join history on comparisons.end_at >= history.valid_from and comparisons.end_at < history.valid_to
    inner join {{ ref('int_accounts__groups') }} as account_groups
        on
            history.account_key = account_groups.account_id
            and comparisons.end_at >= account_groups.valid_from
            and comparisons.end_at < account_groups.valid_to
)

select
    'amounts' as what,
    comparison,
    owner_id as id
from sums
group by comparison, owner_id, product, region, segment, close_month
having
    sum(start_deals) <> 0 or sum(end_deals) <> 0 or sum(start_amount) <> 0 or sum(end_amount) <> 0
    or sum(abs(difference)) <> 0

union all

select
    'buckets' as what,
    comparison,
    opportunity_id as id
from changes
group by comparison, opportunity_id
having
    count(distinct bucket) <> 1
    or sum(case side when 'stayed' then 2 else 1 end) <> 2
