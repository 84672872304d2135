-- The same buckets as ml.forecast.waterfall, on the history of deals; a test holds both equal.
with comparisons as (
    select * from {{ source('settings', 'pipeline_comparisons') }}
),

history as (
    select
        opportunity_id,
        valid_from,
        valid_to,
        status,
        stage,
        closed_at,
        account_id,
        coalesce(account_id, '(none)') as account_key,
        coalesce(owner_id, '(none)') as owner_id,
        coalesce(product, '(none)') as product,
        cast({{ dbt.date_trunc('month', 'expected_close_date') }} as date) as close_month,
        coalesce(amount, 0) as amount,
        currency,
        deal_amount,
        exchange_rate
    from {{ ref('int_deals__history') }}
    where valid_to > (select min(comparisons.start_at) from comparisons)
),

account_groups as (
    select * from {{ ref('int_accounts__groups') }}
),

first_known as (
    select
        opportunity_id,
        min(valid_from) as known_from
    from {{ ref('int_deals__history') }}
    group by opportunity_id
),

-- What was closed all the time is in neither, so that years of closed deals need not be compared.
before as (
    select
        comparisons.comparison,
        history.*,
        account_groups.region,
        account_groups.segment
    from comparisons
    inner join history on comparisons.start_at >= history.valid_from and comparisons.start_at < history.valid_to
    inner join account_groups
        on
            history.account_key = account_groups.account_id
            and comparisons.start_at >= account_groups.valid_from
            and comparisons.start_at < account_groups.valid_to
    where history.status = 'open' or history.valid_to <= comparisons.end_at
),

after as (
    select
        comparisons.comparison,
        history.*,
        account_groups.region,
        account_groups.segment
    from comparisons
    inner join history on comparisons.end_at >= history.valid_from and comparisons.end_at < history.valid_to
    inner join account_groups
        on
            history.account_key = account_groups.account_id
            and comparisons.end_at >= account_groups.valid_from
            and comparisons.end_at < account_groups.valid_to
    where history.status = 'open' or history.valid_from > comparisons.start_at
),

merged as (
    select
        comparisons.comparison,
        merges.opportunity_id,
        merges.merged_into_opportunity_id
    from comparisons
    inner join {{ ref('int_deals__merges') }} as merges
        on comparisons.end_at >= merges.valid_from and comparisons.end_at < merges.valid_to
),

paired as (
    select
        coalesce(before.comparison, after.comparison) as comparison,
        coalesce(before.opportunity_id, after.opportunity_id) as opportunity_id,
        coalesce(before.status, 'unknown') as status_before,
        coalesce(after.status, 'unknown') as status_after,
        before.closed_at as closed_before_at,
        after.closed_at as closed_after_at,
        before.account_id as account_before,
        after.account_id as account_after,
        before.owner_id as owner_before,
        after.owner_id as owner_after,
        before.product as product_before,
        after.product as product_after,
        before.region as region_before,
        after.region as region_after,
        before.segment as segment_before,
        after.segment as segment_after,
        before.close_month as month_before,
        after.close_month as month_after,
        before.stage as stage_before,
        after.stage as stage_after,
        case when before.status = 'open' then before.amount else 0 end as start_amount,
        case when after.status = 'open' then after.amount else 0 end as end_amount,
        case
            -- At the rate of the start, so that what the deal did is told from what its currency did. What had no rate counted with 0.
            when before.status = 'open' and after.status = 'open' and before.currency = after.currency
                then coalesce({{ at_rate('after.deal_amount', 'before.exchange_rate') }}, 0)
            when after.status = 'open' then after.amount
            else 0
        end as own_end_amount,
        case when after.status = 'won' then after.amount else 0 end as won_amount
    from before
    full outer join after on before.comparison = after.comparison and before.opportunity_id = after.opportunity_id
),

-- Open at either moment, or closed between them.
concerned as (
    select paired.*
    from paired
    where
        status_before = 'open'
        or status_after = 'open'
        or (
            status_after in ('won', 'lost')
            and (
                status_before <> status_after
                or coalesce(closed_before_at, {{ beginning_of_time() }}) <> coalesce(closed_after_at, {{ beginning_of_time() }})
            )
        )
),

-- No promised date is later than any. What is compared is of open deals on both sides.
compared as (
    select
        concerned.*,
        case
            when status_before = 'open' and status_after = 'open' and (
                owner_before <> owner_after
                or product_before <> product_after
                or region_before <> region_after
                or segment_before <> segment_after
                or coalesce(account_before, '') <> coalesce(account_after, '')
            ) then 1 else 0
        end as is_moved,
        coalesce(month_before, cast({{ end_of_time() }} as date)) as promised_before,
        coalesce(month_after, cast({{ end_of_time() }} as date)) as promised_after
    from concerned
),

-- The first that fits.
bucketed as (
    select
        compared.*,
        comparisons.start_at,
        comparisons.end_at,
        merged.merged_into_opportunity_id,
        case
            when status_after = 'won' then 'won'
            when status_after = 'lost' then 'lost'
            when status_after = 'unknown' and merged.opportunity_id is not null then 'merged'
            when status_after = 'unknown' then 'deleted'
            when status_before <> 'open' and first_known.known_from <= comparisons.start_at then 'reopened'
            when status_before <> 'open' then 'new'
            when is_moved = 1 then 'owner_moved'
            when promised_after < promised_before then 'pulled_in'
            when promised_after > promised_before then 'pushed_out'
            when own_end_amount > start_amount then 'up'
            when own_end_amount < start_amount then 'down'
            when stages_after.stage_no > stages_before.stage_no then 'stage_forward'
            when stages_after.stage_no < stages_before.stage_no then 'stage_back'
            else 'unchanged'
        end as bucket,
        case
            when status_before <> 'open' or status_after <> 'open' then 'stayed'
            when is_moved = 1 or promised_before <> promised_after then 'split'
            else 'stayed'
        end as side
    from compared
    inner join comparisons on compared.comparison = comparisons.comparison
    inner join first_known on compared.opportunity_id = first_known.opportunity_id
    left join merged on compared.comparison = merged.comparison and compared.opportunity_id = merged.opportunity_id
    left join {{ ref('int_deals__stages') }} as stages_before on compared.stage_before = stages_before.stage
    left join {{ ref('int_deals__stages') }} as stages_after on compared.stage_after = stages_after.stage
),

-- A deal that left the pipeline keeps the attributes that it had in it; one that came has its present ones.
sided as (
    select
        bucketed.comparison, bucketed.start_at, bucketed.end_at, bucketed.opportunity_id, bucketed.side, bucketed.bucket,
        case when status_before = 'open' then account_before else account_after end as account_id,
        case when status_before = 'open' then owner_before else owner_after end as owner_id,
        case when status_before = 'open' then product_before else product_after end as product,
        case when status_before = 'open' then region_before else region_after end as region,
        case when status_before = 'open' then segment_before else segment_after end as segment,
        case when status_before = 'open' then month_before else month_after end as close_month,
        stage_before, stage_after, merged_into_opportunity_id,
        case when status_before = 'open' then 1 else 0 end as start_count,
        case when status_after = 'open' then 1 else 0 end as end_count,
        start_amount, own_end_amount as end_amount, won_amount
    from bucketed
    where side = 'stayed'

    union all

    select
        bucketed.comparison, bucketed.start_at, bucketed.end_at, bucketed.opportunity_id, 'left' as side, bucketed.bucket,
        account_before as account_id,
        owner_before as owner_id,
        product_before as product,
        region_before as region,
        segment_before as segment,
        month_before as close_month,
        stage_before, stage_after, merged_into_opportunity_id,
        1 as start_count,
        0 as end_count,
        start_amount, 0 as end_amount, 0 as won_amount
    from bucketed
    where side = 'split'

    union all

    select
        bucketed.comparison, bucketed.start_at, bucketed.end_at, bucketed.opportunity_id, 'arrived' as side, bucketed.bucket,
        account_after as account_id,
        owner_after as owner_id,
        product_after as product,
        region_after as region,
        segment_after as segment,
        month_after as close_month,
        stage_before, stage_after, merged_into_opportunity_id,
        0 as start_count,
        1 as end_count,
        0 as start_amount, own_end_amount as end_amount, 0 as won_amount
    from bucketed
    where side = 'split'

    union all

    -- What the same deal is worth more or less because its currency is.
    select
        bucketed.comparison, bucketed.start_at, bucketed.end_at, bucketed.opportunity_id, 'revalued' as side, 'currency' as bucket,
        account_after as account_id,
        owner_after as owner_id,
        product_after as product,
        region_after as region,
        segment_after as segment,
        month_after as close_month,
        stage_before, stage_after, merged_into_opportunity_id,
        0 as start_count,
        0 as end_count,
        0 as start_amount, end_amount - own_end_amount as end_amount, 0 as won_amount
    from bucketed
    where end_amount <> own_end_amount
)

select
    sided.comparison,
    sided.start_at,
    sided.end_at,
    sided.opportunity_id,
    sided.side,
    sided.bucket,
    sided.account_id,
    sided.owner_id,
    coalesce(users.user_name, sided.owner_id) as owner_name,
    coalesce(users.team, '(none)') as team,
    sided.region,
    sided.segment,
    sided.product,
    sided.close_month,
    sided.stage_before,
    sided.stage_after,
    sided.merged_into_opportunity_id,
    cast(sided.start_count as bigint) as start_count,
    cast(sided.end_count as bigint) as end_count,
    cast(sided.start_amount as decimal(18, 2)) as start_amount,
    cast(sided.end_amount - sided.start_amount as decimal(18, 2)) as change_amount,
    cast(sided.end_amount as decimal(18, 2)) as end_amount,
    cast(sided.won_amount as decimal(18, 2)) as won_amount
from sided
left join {{ ref('stg_crm__users') }} as users on sided.owner_id = users.user_id
