-- Accounts at the beginnings of months: did the account win a deal in the days after? Empty unless that is what is learnt.
-- A month whose days have not run out has no outcome yet, also where the account has won already: kept ones would all be wins.
with months as (
    select * from {{ source('settings', 'label_months') }}
),

label as (
    select * from {{ source('settings', 'label') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

accounts as (
    select
        accounts.account_id,
        coalesce(accounts.created_at, {{ beginning_of_time() }}) as known_at,
        row_number() over (order by {{ dbt.hash('accounts.account_id') }}, accounts.account_id) as sample_no
    from {{ ref('int_accounts') }} as accounts
    where exists (select 1 from months)
),

won as (
    select
        account_id,
        closed_at,
        amount
    from {{ ref('int_deals__labelled') }}
    where status = 'won' and exclusion is null
),

first_wins as (
    select
        account_id,
        min(closed_at) as first_won_at
    from won
    group by account_id
),

account_months as (
    select
        accounts.account_id,
        months.month_start_at,
        months.month_start_date,
        months.outcome_known_at
    from accounts
    cross join label
    cross join refresh
    inner join months on accounts.known_at <= months.month_start_at
    left join first_wins on accounts.account_id = first_wins.account_id
    where
        accounts.sample_no <= label.most_accounts
        -- Who is a customer by then is not ranked.
        and not (refresh.is_customer_by_won_deal and coalesce(first_wins.first_won_at <= months.month_start_at, false))
),

wins as (
    select
        account_months.account_id,
        account_months.month_start_at,
        sum(won.amount) as amount
    from account_months
    inner join won
        on
            account_months.account_id = won.account_id
            and won.closed_at > account_months.month_start_at
            and won.closed_at <= account_months.outcome_known_at
    group by account_months.account_id, account_months.month_start_at
)

select
    account_months.account_id || '@' || cast(account_months.month_start_date as {{ dbt.type_string() }}) as spine_id,
    account_months.account_id,
    cast(null as {{ dbt.type_string() }}) as contact_id,
    account_months.month_start_at as as_of_at,
    account_months.month_start_date as as_of_date,
    case
        when account_months.outcome_known_at > refresh.as_of_at then null
        when wins.account_id is not null then 1
        else 0
    end as is_won,
    case when account_months.outcome_known_at <= refresh.as_of_at then account_months.outcome_known_at end as closed_at,
    case when account_months.outcome_known_at <= refresh.as_of_at then wins.amount end as amount
from account_months
cross join refresh
left join wins
    on account_months.account_id = wins.account_id and account_months.month_start_at = wins.month_start_at
