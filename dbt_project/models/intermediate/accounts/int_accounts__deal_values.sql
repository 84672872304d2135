-- What a deal with an account is worth, on average. Its own won and open deals say what it buys; five deals of companies of its size stand
-- in for what is not yet known, and five of everybody behind those. Companies are of one size whose employees' numbers have as many digits.
with deals as (
    select
        account_id,
        status,
        amount
    from {{ ref('int_deals') }}
    where account_id is not null and amount is not null and status in ('won', 'open')
),

sized as (
    select
        accounts.account_id,
        {{ dbt.length('cast(versions.employees as ' ~ dbt.type_string() ~ ')') }} as digits
    from {{ ref('int_accounts') }} as accounts
    inner join {{ ref('stg_crm__account_versions') }} as versions on accounts.account_id = versions.account_id
    where versions.valid_from <= {{ as_of_at() }} and versions.valid_to > {{ as_of_at() }}
),

own as (
    select
        account_id,
        sum(amount) as amount,
        count(*) as deal_count
    from deals
    group by account_id
),

of_everybody as (
    select cast(1.0 * sum(amount) / count(*) as decimal(18, 2)) as mean_amount
    from {{ ref('int_deals') }}
    where status = 'won' and amount is not null
),

of_a_size as (
    select
        sized.digits,
        sum(deals.amount) as amount,
        count(*) as deal_count
    from deals
    inner join sized on deals.account_id = sized.account_id
    where deals.status = 'won' and sized.digits is not null
    group by sized.digits
),

expected as (
    select
        sized.account_id,
        case
            when of_a_size.deal_count is null then of_everybody.mean_amount
            else
                cast(
                    (cast(of_a_size.amount as double) + 5 * cast(of_everybody.mean_amount as double))
                    / (of_a_size.deal_count + 5) as decimal(18, 2)
                )
        end as mean_amount
    from sized
    cross join of_everybody
    left join of_a_size on sized.digits = of_a_size.digits
)

select
    expected.account_id,
    cast(
        (cast(coalesce(own.amount, 0) as double) + 5 * cast(expected.mean_amount as double))
        / (coalesce(own.deal_count, 0) + 5) as decimal(18, 2)
    ) as deal_amount
from expected
left join own on expected.account_id = own.account_id
