-- Every deal with all that was known of it and changed, up to the as-of moment: each row holds from valid_from until valid_to. At any
-- moment it says what `int_deals` said, or would have said, as of that moment; a test compares both.
with versions as (
    select * from {{ ref('stg_crm__opportunity_versions') }}
),

first_seen as (
    select
        opportunity_id,
        min(version_at) as first_seen_at
    from versions
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
        row_number() over (partition by opportunity_id, changed_at order by stage desc nulls last) as newest_first
    from {{ ref('stg_crm__opportunity_stage_changes') }}
    where changed_at <= {{ as_of_at() }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

-- Whenever anything may have become different.
moments as (
    select
        opportunity_id,
        valid_from as moment,
        0 as is_stage_change
    from versions

    union

    select
        versions.opportunity_id,
        coalesce(versions.opened_at, first_seen.first_seen_at) as moment,
        0 as is_stage_change
    from versions
    inner join first_seen on versions.opportunity_id = first_seen.opportunity_id

    union

    select
        opportunity_id,
        closed_at as moment,
        0 as is_stage_change
    from versions
    where status <> 'open' and closed_at is not null

    union

    select
        opportunity_id,
        changed_at as moment,
        1 as is_stage_change
    from stage_changes
),

moments_once as (
    select
        opportunity_id,
        moment,
        max(case when is_stage_change = 1 then moment end) as stage_changed_at
    from moments
    where moment <= {{ as_of_at() }}
    group by opportunity_id, moment
),

spans as (
    select
        opportunity_id,
        moment as valid_from,
        coalesce(
            lead(moment) over (partition by opportunity_id order by moment), {{ end_of_time() }}
        ) as valid_to,
        max(stage_changed_at) over (
            partition by opportunity_id order by moment rows between unbounded preceding and current row
        ) as stage_changed_at
    from moments_once
),

held as (
    select
        spans.opportunity_id,
        spans.valid_from,
        spans.valid_to,
        spans.stage_changed_at,
        versions.account_id as landed_account_id,
        versions.owner_id,
        versions.product,
        versions.stage,
        versions.status,
        versions.amount,
        versions.opened_at,
        versions.expected_close_date,
        versions.closed_at,
        versions.forecast_category,
        coalesce(versions.currency, refresh.currency) = refresh.currency as is_workspace_currency,
        versions.status <> 'open' and coalesce(versions.closed_at > spans.valid_from, false) as is_closed_later
    from spans
    inner join versions on spans.opportunity_id = versions.opportunity_id
    inner join first_seen on spans.opportunity_id = first_seen.opportunity_id
    cross join {{ source('settings', 'refresh') }} as refresh
    where
        versions.valid_from <= spans.valid_from
        and versions.valid_to > spans.valid_from
        and not coalesce(versions.is_deleted, false)
        and coalesce(versions.opened_at, first_seen.first_seen_at) <= spans.valid_from
)

select
    held.opportunity_id,
    held.valid_from,
    held.valid_to,
    survivors.surviving_account_id as account_id,
    coalesce(case when held.is_closed_later then changes.owner_id end, held.owner_id) as owner_id,
    held.product,
    {{ deal_state('held', 'changes') }},
    held.opened_at,
    case when held.is_closed_later then changes.forecast_category else held.forecast_category end as forecast_category
from held
left join stage_changes as changes
    on
        held.opportunity_id = changes.opportunity_id
        and held.stage_changed_at = changes.changed_at
        and changes.newest_first = 1
left join survivors on held.landed_account_id = survivors.account_id
