-- Deals as they were at the as-of moment. A closing that came later is put back: the deal is open, and what was
-- written at the close (amount, stage, reason) is taken from the stage history or is unknown.
with versions as (
    select * from {{ ref('stg_crm__opportunity_versions') }}
    where not coalesce(is_deleted, false)
),

first_seen as (
    select
        opportunity_id,
        min(version_at) as first_seen_at
    from {{ ref('stg_crm__opportunity_versions') }}
    group by opportunity_id
),

stage_changes as (
    select
        opportunity_id,
        changed_at,
        stage,
        amount,
        expected_close_date,
        owner_id,
        forecast_category,
        row_number() over (partition by opportunity_id order by changed_at desc, stage desc) as newest_first
    from {{ ref('stg_crm__opportunity_stage_changes') }}
    where changed_at <= {{ as_of_at() }}
),

-- What is merged into another deal counts there.
merged as (
    select opportunity_id
    from {{ ref('int_deals__merges') }}
    where valid_from <= {{ as_of_at() }} and valid_to > {{ as_of_at() }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

held as (
    select
        versions.*,
        survivors.surviving_account_id,
        refresh.as_of_at,
        {{ currency_of('versions', 'refresh') }} as deal_currency,
        refresh.currency as workspace_currency,
        versions.status <> 'open' and coalesce(versions.closed_at > refresh.as_of_at, false) as is_closed_later
    from versions
    inner join first_seen on versions.opportunity_id = first_seen.opportunity_id
    cross join refresh
    left join survivors on versions.account_id = survivors.account_id
    left join merged on versions.opportunity_id = merged.opportunity_id
    where
        merged.opportunity_id is null
        and versions.valid_from <= refresh.as_of_at
        and versions.valid_to > refresh.as_of_at
        -- A deal without an opening date exists from when its record was first seen.
        and coalesce(versions.opened_at, first_seen.first_seen_at) <= refresh.as_of_at
),

put_back as (
    select
        held.opportunity_id,
        held.opportunity_name,
        held.surviving_account_id as account_id,
        held.contact_id,
        coalesce(case when held.is_closed_later then stage_changes.owner_id end, held.owner_id) as owner_id,
        held.product,
        {{ deal_state('held', 'stage_changes', 'held.as_of_at') }},
        held.deal_currency as currency,
        held.deal_currency = held.workspace_currency as is_workspace_currency,
        held.as_of_at,
        held.opened_at,
        held.lead_source,
        held.campaign_id,
        case when held.is_closed_later then null else held.loss_reason end as loss_reason,
        held.deal_type,
        case when held.is_closed_later then stage_changes.forecast_category else held.forecast_category end
            as forecast_category,
        held.is_closed_later
    from held
    left join stage_changes
        on held.opportunity_id = stage_changes.opportunity_id and stage_changes.newest_first = 1
),

-- What is closed is worth what it was worth on the day of its closing, what is open what it is worth now.
dated as (
    select
        put_back.*,
        cast(coalesce(closed_at, as_of_at) as date) as rate_day
    from put_back
),

rates as (
    {{ rates_on_days('dated') }}
)

select
    dated.opportunity_id,
    dated.opportunity_name,
    dated.account_id,
    dated.contact_id,
    dated.owner_id,
    dated.product,
    dated.stage,
    dated.status,
    {{ converted('dated.deal_amount', 'dated.is_workspace_currency', 'rates.rate') }} as amount,
    dated.expected_close_date,
    dated.closed_at,
    dated.currency,
    dated.deal_amount,
    case when dated.is_workspace_currency then 1 else rates.rate end as exchange_rate,
    dated.is_workspace_currency,
    dated.opened_at,
    dated.lead_source,
    dated.campaign_id,
    dated.loss_reason,
    dated.deal_type,
    dated.forecast_category,
    dated.is_closed_later
from dated
left join rates on dated.currency = rates.currency and dated.rate_day = rates.rate_day
