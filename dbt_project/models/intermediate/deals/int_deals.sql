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
        stage,
        amount,
        expected_close_date,
        owner_id,
        forecast_category,
        row_number() over (partition by opportunity_id order by changed_at desc, stage desc) as newest_first
    from {{ ref('stg_crm__opportunity_stage_changes') }}
    where changed_at <= {{ as_of_at() }}
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
        coalesce(versions.currency, refresh.currency) = refresh.currency as is_workspace_currency,
        versions.status <> 'open' and coalesce(versions.closed_at > refresh.as_of_at, false) as is_closed_later
    from versions
    inner join first_seen on versions.opportunity_id = first_seen.opportunity_id
    cross join refresh
    left join survivors on versions.account_id = survivors.account_id
    where
        versions.valid_from <= refresh.as_of_at
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
        {{ deal_state('held', 'stage_changes') }},
        held.is_workspace_currency,
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
)

select * from put_back
