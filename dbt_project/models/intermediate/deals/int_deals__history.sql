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

merges as (
    select * from {{ ref('int_deals__merges') }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

-- Whenever anything may have become different.
moments as (
    select
        opportunity_id,
        valid_from as moment,
        0 as is_stage_change
    from versions

    union

    -- A first version stands for the time before it, and speaks before the history only from its own moment on.
    select
        opportunity_id,
        version_at as moment,
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
        valid_from as moment,
        0 as is_stage_change
    from merges

    union

    select
        opportunity_id,
        valid_to as moment,
        0 as is_stage_change
    from merges
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

-- What is merged into another deal counts there.
merged as (
    select
        spans.opportunity_id,
        spans.valid_from
    from spans
    inner join merges
        on
            spans.opportunity_id = merges.opportunity_id
            and spans.valid_from >= merges.valid_from
            and spans.valid_from < merges.valid_to
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
        versions.version_at,
        {{ currency_of('versions', 'refresh') }} as currency,
        {{ currency_of('versions', 'refresh') }} = refresh.currency as is_workspace_currency,
        versions.status <> 'open' and coalesce(versions.closed_at > spans.valid_from, false) as is_closed_later
    from spans
    inner join versions on spans.opportunity_id = versions.opportunity_id
    inner join first_seen on spans.opportunity_id = first_seen.opportunity_id
    cross join refresh
    left join merged on spans.opportunity_id = merged.opportunity_id and spans.valid_from = merged.valid_from
    where
        merged.opportunity_id is null
        and versions.valid_from <= spans.valid_from
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
        {{ deal_state('held', 'changes', 'held.valid_from') }},
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

-- Days from which a currency has another rate, and the time before the first one, when it has none.
rate_spans as (
    select
        currency,
        cast(from_date as timestamp) as from_at,
        cast(until_date as timestamp) as until_at,
        rate
    from {{ ref('int_exchange_rates') }}

    union all

    select
        currency,
        {{ beginning_of_time() }} as from_at,
        cast(min(from_date) as timestamp) as until_at,
        cast(null as decimal(18, 12)) as rate
    from {{ ref('int_exchange_rates') }}
    group by currency
),

-- What is open is worth something else from the day on that its currency is; what is closed, what it was worth on the day of its closing.
open_in_currencies as (
    select stated.*
    from stated
    where status = 'open' and currency in (select rate_spans.currency from rate_spans)
),

others as (
    select
        stated.*,
        cast(coalesce(closed_at, valid_from) as date) as rate_day
    from stated
    where not (status = 'open' and currency in (select rate_spans.currency from rate_spans))
),

rates as (
    {{ rates_on_days('others') }}
),

priced as (
{%- set state = [
    'opportunity_id', 'account_id', 'owner_id', 'product', 'stage', 'status', 'deal_amount', 'expected_close_date', 'closed_at',
    'opened_at', 'forecast_category', 'currency', 'is_workspace_currency',
] %}
    select
        {%- for column in state %}
        others.{{ column }},
        {%- endfor %}
        others.valid_from,
        others.valid_to,
        rates.rate
    from others
    left join rates on others.currency = rates.currency and others.rate_day = rates.rate_day

    union all

    select
        {%- for column in state %}
        open_rows.{{ column }},
        {%- endfor %}
        greatest(open_rows.valid_from, rate_spans.from_at) as valid_from,
        least(open_rows.valid_to, rate_spans.until_at) as valid_to,
        rate_spans.rate
    from open_in_currencies as open_rows
    inner join rate_spans
        on
            open_rows.currency = rate_spans.currency
            and open_rows.valid_from < rate_spans.until_at
            and open_rows.valid_to > rate_spans.from_at
)

select
    opportunity_id,
    valid_from,
    valid_to,
    account_id,
    owner_id,
    product,
    stage,
    status,
    {{ converted('deal_amount', 'is_workspace_currency', 'rate') }} as amount,
    expected_close_date,
    closed_at,
    opened_at,
    forecast_category,
    currency,
    deal_amount,
    case when is_workspace_currency then 1 else rate end as exchange_rate
from priced
