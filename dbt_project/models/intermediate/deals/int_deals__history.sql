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

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

foreign_versions as (
    select
        versions.opportunity_id,
        {{ currency_of('versions', 'refresh') }} as currency,
        versions.valid_from,
        versions.valid_to,
        coalesce(versions.opened_at, first_seen.first_seen_at) as begins_at,
        case when versions.status = 'open' then {{ end_of_time() }} else coalesce(versions.closed_at, {{ end_of_time() }}) end
            as ends_at
    from versions
    inner join first_seen on versions.opportunity_id = first_seen.opportunity_id
    cross join refresh
    where {{ currency_of('versions', 'refresh') }} <> refresh.currency
),

-- An open deal in another currency is worth something else from the day on that its rate is another.
rate_changes as (
    select
        foreign_versions.opportunity_id,
        cast(rates.from_date as timestamp) as moment
    from foreign_versions
    inner join {{ ref('int_exchange_rates') }} as rates on foreign_versions.currency = rates.currency
    where
        cast(rates.from_date as timestamp) >= foreign_versions.begins_at
        and cast(rates.from_date as timestamp) >= foreign_versions.valid_from
        and cast(rates.from_date as timestamp) < foreign_versions.valid_to
        and cast(rates.from_date as timestamp) < foreign_versions.ends_at
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

    union

    select
        opportunity_id,
        moment,
        0 as is_stage_change
    from rate_changes
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
        {{ currency_of('versions', 'refresh') }} as currency,
        {{ currency_of('versions', 'refresh') }} = refresh.currency as is_workspace_currency,
        versions.status <> 'open' and coalesce(versions.closed_at > spans.valid_from, false) as is_closed_later
    from spans
    inner join versions on spans.opportunity_id = versions.opportunity_id
    inner join first_seen on spans.opportunity_id = first_seen.opportunity_id
    cross join refresh
    where
        versions.valid_from <= spans.valid_from
        and versions.valid_to > spans.valid_from
        and not coalesce(versions.is_deleted, false)
        and coalesce(versions.opened_at, first_seen.first_seen_at) <= spans.valid_from
),

stated as (
    select
        held.opportunity_id,
        held.valid_from,
        held.valid_to,
        survivors.surviving_account_id as account_id,
        coalesce(case when held.is_closed_later then changes.owner_id end, held.owner_id) as owner_id,
        held.product,
        {{ deal_state('held', 'changes') }},
        held.opened_at,
        held.currency,
        held.is_workspace_currency,
        case when held.is_closed_later then changes.forecast_category else held.forecast_category end as forecast_category
    from held
    left join stage_changes as changes
        on
            held.opportunity_id = changes.opportunity_id
            and held.stage_changed_at = changes.changed_at
            and changes.newest_first = 1
    left join survivors on held.landed_account_id = survivors.account_id
),

-- What is closed is worth what it was worth on the day of its closing, what is open what it was worth from then on.
dated as (
    select
        stated.*,
        cast(coalesce(closed_at, valid_from) as date) as rate_day
    from stated
),

rates as (
    {{ rates_on_days('dated') }}
)

select
    dated.opportunity_id,
    dated.valid_from,
    dated.valid_to,
    dated.account_id,
    dated.owner_id,
    dated.product,
    dated.stage,
    dated.status,
    {{ converted('dated.deal_amount', 'dated.is_workspace_currency', 'rates.rate') }} as amount,
    dated.expected_close_date,
    dated.closed_at,
    dated.opened_at,
    dated.forecast_category,
    dated.currency,
    dated.deal_amount,
    case when dated.is_workspace_currency then 1 else rates.rate end as exchange_rate
from dated
left join rates on dated.currency = rates.currency and dated.rate_day = rates.rate_day
