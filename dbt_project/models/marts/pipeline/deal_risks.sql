with risks as (
    select * from {{ ref('int_deals__risks') }}
),

deals as (
    select * from {{ ref('int_deals') }}
),

-- Past deals as of the beginning of a month, and whether they have been won since.
past as (
    select
        risks.risk,
        risks.is_present,
        case when deals.status = 'won' then 1 else 0 end as is_won
    from risks
    inner join deals on risks.opportunity_id = deals.opportunity_id
    where risks.is_now = 0 and risks.is_present is not null
),

counted as (
    select
        risk,
        sum(is_present) as with_count,
        sum(is_present * is_won) as with_won_count,
        sum(1 - is_present) as without_count,
        sum((1 - is_present) * is_won) as without_won_count
    from past
    group by risk
),

measured as (
    select
        counted.*,
        cast(1.0 * with_won_count / nullif(with_count, 0) as double) as with_rate,
        cast({{ wilson('with_won_count', 'with_count', -1) }} as double) as with_low,
        cast({{ wilson('with_won_count', 'with_count', 1) }} as double) as with_high,
        cast(1.0 * without_won_count / nullif(without_count, 0) as double) as without_rate,
        cast({{ wilson('without_won_count', 'without_count', -1) }} as double) as without_low,
        cast({{ wilson('without_won_count', 'without_count', 1) }} as double) as without_high
    from counted
),

users as (
    select * from {{ ref('stg_crm__users') }}
),

accounts as (
    select * from {{ ref('int_accounts') }}
),

nouns as (
    select
        true as is_one,
        'day' as day,
        'person' as person,
        'time' as time
    union all
    select
        false,
        'days',
        'people',
        'times'
)

select
    risks.opportunity_id,
    deals.opportunity_name,
    risks.risk,
    risks.since_date,
    risks.found_value,
    risks.limit_value,
    case risks.risk
        when 'stuck' then nouns.day || ' in the stage ' || deals.stage
        when 'overdue' then nouns.day || ' since the promised date'
        when 'no_activity' then nouns.day || ' since the account did anything'
        when 'single_threaded' then nouns.person || ' of the account who did anything lately'
        else nouns.time || ' that the promised date was put off'
    end as unit,
    deals.account_id,
    accounts.account_name,
    coalesce(deals.owner_id, '(none)') as owner_id,
    coalesce(users.user_name, deals.owner_id, '(none)') as owner_name,
    coalesce(users.team, '(none)') as team,
    deals.stage,
    deals.amount,
    deals.expected_close_date,
    case
        when
            coalesce(measured.with_count, 0) < rules.least_deals or coalesce(measured.without_count, 0) < rules.least_deals
            then 'too few deals'
        when measured.with_high < measured.without_low then 'won less often'
        when measured.with_low > measured.without_high then 'won more often'
        else 'no difference shown'
    end as effect,
    cast(coalesce(measured.with_count, 0) as bigint) as deal_count_with,
    cast(coalesce(measured.with_won_count, 0) as bigint) as won_count_with,
    measured.with_rate as win_rate_with,
    measured.with_low as win_rate_with_low,
    measured.with_high as win_rate_with_high,
    cast(coalesce(measured.without_count, 0) as bigint) as deal_count_without,
    cast(coalesce(measured.without_won_count, 0) as bigint) as won_count_without,
    measured.without_rate as win_rate_without,
    measured.without_low as win_rate_without_low,
    measured.without_high as win_rate_without_high,
    risks.seen_at as as_of_at
from risks
cross join {{ source('settings', 'deal_risk_rules') }} as rules
inner join deals on risks.opportunity_id = deals.opportunity_id
inner join nouns on nouns.is_one = coalesce(risks.found_value = 1, false)
left join measured on risks.risk = measured.risk
left join users on deals.owner_id = users.user_id
left join accounts on deals.account_id = accounts.account_id
where risks.is_now = 1 and risks.is_present = 1
