-- Every deal with the outcome that is learnt, or why it is not. What counts of a closed deal is read from the version of its record
-- in which its outcome first stood: what is edited afterwards changes neither label nor feature.
with deals as (
    select * from {{ ref('int_deals') }}
),

label as (
    select * from {{ source('settings', 'label') }}
),

stages as (
    select * from {{ source('settings', 'label_stages') }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

exclusions as (
    select * from {{ source('settings', 'label_exclusions') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

versions as (
    select
        versions.opportunity_id,
        versions.version_no,
        versions.account_id,
        versions.deal_type,
        versions.loss_reason,
        versions.opened_at,
        versions.closed_at,
        versions.amount as deal_amount,
        {{ currency_of('versions', 'refresh') }} as currency,
        {{ currency_of('versions', 'refresh') }} = refresh.currency as is_workspace_currency,
        case when versions.status = 'open' then 'open' else coalesce(stages.status, versions.status) end as status
    from {{ ref('stg_crm__opportunity_versions') }} as versions
    cross join refresh
    left join stages on lower(trim(versions.stage)) = stages.stage
    where versions.valid_from <= refresh.as_of_at and not coalesce(versions.is_deleted, false)
),

followed as (
    select
        versions.*,
        lag(status) over (partition by opportunity_id order by version_no) as status_before
    from versions
),

-- A version in which an outcome first stood, or the deal was open again.
changes as (
    select
        followed.*,
        row_number() over (partition by opportunity_id order by version_no desc nulls last) as newest_first,
        sum(case when status = 'open' then 0 else 1 end) over (
            partition by opportunity_id order by version_no rows between unbounded preceding and current row
        ) as outcome_no
    from followed
    where status_before is null or status_before <> status
),

-- Of a re-opened deal the newest outcome counts, being open one of them, or the first one that it ever had.
outcomes as (
    select changes.*
    from changes
    cross join label
    where
        (label.reopened = 'newest' and changes.newest_first = 1)
        or (label.reopened = 'first' and changes.status <> 'open' and changes.outcome_no = 1)
),

-- Joined by the deal alone: a condition on both sides of a left join would compare every deal with every outcome.
closed as (
    select
        outcomes.*,
        cast(coalesce(outcomes.closed_at, refresh.as_of_at) as date) as rate_day
    from outcomes
    cross join refresh
    where outcomes.status <> 'open' and coalesce(outcomes.closed_at, refresh.as_of_at) <= refresh.as_of_at
),

rates as (
    {{ rates_on_days('closed') }}
),

closings as (
    select
        closed.*,
        {{ converted('closed.deal_amount', 'closed.is_workspace_currency', 'rates.rate') }} as amount
    from closed
    left join rates on closed.currency = rates.currency and closed.rate_day = rates.rate_day
),

combined as (
    select
        deals.opportunity_id,
        case when is_closed.opportunity_id is not null then is_closed.status else 'open' end as status,
        case when is_closed.opportunity_id is not null then survivors.surviving_account_id else deals.account_id end
            as account_id,
        case when is_closed.opportunity_id is not null then is_closed.opened_at else deals.opened_at end as opened_at,
        is_closed.closed_at,
        case when is_closed.opportunity_id is not null then is_closed.amount else deals.amount end as amount,
        case when is_closed.opportunity_id is not null then is_closed.deal_type else deals.deal_type end as deal_type,
        is_closed.loss_reason
    from deals
    left join closings as is_closed on deals.opportunity_id = is_closed.opportunity_id
    left join survivors on is_closed.account_id = survivors.account_id
)

select
    combined.*,
    case
        when accounts.account_id is null then 'no account'
        when combined.opened_at is null then 'no opening date'
        when combined.opened_at < label.since_at then 'opened before the label begins'
        when excluded_types.value is not null then 'deal type: ' || excluded_types.value
        when excluded_reasons.value is not null then 'loss reason: ' || excluded_reasons.value
    end as exclusion
from combined
cross join label
left join survivors as accounts
    on combined.account_id = accounts.account_id and accounts.surviving_account_id = accounts.account_id
left join exclusions as excluded_types
    on excluded_types.field = 'deal_type' and lower(trim(combined.deal_type)) = excluded_types.value
left join exclusions as excluded_reasons
    on excluded_reasons.field = 'loss_reason' and lower(trim(combined.loss_reason)) = excluded_reasons.value
