with periods as (
    select * from {{ source('settings', 'target_periods') }}
),

records as (
    select
        coalesce(owner_id, '(none)') as owner_id,
        period_type,
        period_start,
        extract(year from period_start) * 12 + extract(month from period_start) as first_month_no,
        case period_type when 'month' then 1 when 'quarter' then 3 else 12 end as month_count,
        cast(target_amount * 100 as bigint) as target_cents,
        author,
        note
    from {{ ref('stg_crm__targets') }}
    where target_amount is not null
),

months as (
    select
        period_start,
        extract(year from period_start) * 12 + extract(month from period_start) as month_no
    from periods
    where period_type = 'month'
),

-- A month's part of a quarter or a year in whole cents, so that the parts add up to it: what is due until its end less what was before.
shares as (
    select
        records.owner_id,
        months.period_start,
        months.month_no,
        {{ integer_divide('records.target_cents * (months.month_no - records.first_month_no + 1)', 'records.month_count') }}
        - {{ integer_divide('records.target_cents * (months.month_no - records.first_month_no)', 'records.month_count') }}
            as target_cents,
        records.author,
        records.note,
        row_number() over (
            partition by records.owner_id, months.period_start order by records.month_count, records.period_start desc nulls last
        ) as closest_first
    from records
    inner join months
        on
            months.month_no >= records.first_month_no
            and months.month_no < records.first_month_no + records.month_count
),

month_targets as (
    select
        owner_id,
        period_start,
        target_cents,
        author,
        note
    from shares
    where closest_first = 1
),

of_months as (
    select
        month_targets.owner_id,
        periods.period_type,
        periods.period_start,
        sum(month_targets.target_cents) as target_cents,
        count(*) as covered_month_count,
        -- Of a sum of several targets nobody alone is the author.
        case when periods.period_type = 'month' then max(month_targets.author) end as author,
        case when periods.period_type = 'month' then max(month_targets.note) end as note
    from month_targets
    inner join periods
        on month_targets.period_start >= periods.period_start and month_targets.period_start < periods.period_end
    group by month_targets.owner_id, periods.period_type, periods.period_start
),

-- What was set for the very period comes before what its months add up to.
set_or_summed as (
    select
        of_months.owner_id,
        of_months.period_type,
        of_months.period_start,
        records.owner_id is not null as is_set,
        coalesce(records.target_cents, of_months.target_cents) as target_cents,
        coalesce(records.month_count, of_months.covered_month_count) as covered_month_count,
        case when records.owner_id is not null then records.author else of_months.author end as target_author,
        case when records.owner_id is not null then records.note else of_months.note end as target_note
    from of_months
    left join records
        on
            of_months.owner_id = records.owner_id
            and of_months.period_type = records.period_type
            and of_months.period_start = records.period_start
),

-- A year adds up its quarters and not its months: what was set for a quarter counts there, too.
of_quarters as (
    select
        quarters.owner_id,
        periods.period_start,
        sum(quarters.target_cents) as target_cents,
        sum(quarters.covered_month_count) as covered_month_count
    from set_or_summed as quarters
    inner join periods
        on
            periods.period_type = 'year'
            and quarters.period_start >= periods.period_start
            and quarters.period_start < periods.period_end
    where quarters.period_type = 'quarter'
    group by quarters.owner_id, periods.period_start
),

period_targets as (
    select
        found.owner_id,
        found.period_type,
        found.period_start,
        found.target_author,
        found.target_note,
        case
            when found.period_type = 'year' and not found.is_set then of_quarters.target_cents
            else found.target_cents
        end as target_cents,
        case
            when found.period_type = 'year' and not found.is_set then of_quarters.covered_month_count
            else found.covered_month_count
        end as covered_month_count,
        case
            when found.is_set then 'set'
            when found.period_type = 'month' then 'share'
            when found.period_type = 'quarter' then 'sum of months'
            else 'sum of quarters'
        end as target_source
    from set_or_summed as found
    left join of_quarters on found.owner_id = of_quarters.owner_id and found.period_start = of_quarters.period_start
),

won as (
    select
        coalesce(deals.owner_id, '(none)') as owner_id,
        periods.period_type,
        periods.period_start,
        count(*) as won_deal_count,
        sum(case when deals.amount is null then 1 else 0 end) as without_amount_count,
        sum(coalesce(deals.amount, 0)) as won_amount
    from {{ ref('int_deals') }} as deals
    inner join periods on deals.closed_at >= periods.period_start and deals.closed_at < periods.period_end
    where deals.status = 'won'
    group by coalesce(deals.owner_id, '(none)'), periods.period_type, periods.period_start
),

cells as (
    select owner_id, period_type, period_start from period_targets
    union
    select owner_id, period_type, period_start from won
),

joined as (
    select
        cells.owner_id,
        periods.period_type,
        periods.period_start,
        periods.period_end,
        periods.period_label,
        period_targets.target_source,
        period_targets.target_author,
        period_targets.target_note,
        coalesce(period_targets.covered_month_count, 0) as covered_month_count,
        cast(cast(period_targets.target_cents as decimal(20, 0)) / 100 as decimal(18, 2)) as target_amount,
        coalesce(won.won_deal_count, 0) as won_deal_count,
        coalesce(won.without_amount_count, 0) as without_amount_count,
        cast(coalesce(won.won_amount, 0) as decimal(18, 2)) as won_amount
    from cells
    inner join periods on cells.period_type = periods.period_type and cells.period_start = periods.period_start
    left join period_targets
        on
            cells.owner_id = period_targets.owner_id
            and cells.period_type = period_targets.period_type
            and cells.period_start = period_targets.period_start
    left join won
        on
            cells.owner_id = won.owner_id
            and cells.period_type = won.period_type
            and cells.period_start = won.period_start
)

select
    joined.period_type,
    joined.period_start,
    joined.period_end,
    joined.period_label,
    case
        when joined.period_end <= refresh.as_of_date then 'over'
        when joined.period_start <= refresh.as_of_date then 'running'
        else 'to come'
    end as period_status,
    joined.owner_id,
    coalesce(users.user_name, joined.owner_id) as owner_name,
    coalesce(users.team, '(none)') as team,
    coalesce(users.region, '(none)') as region,
    joined.target_amount,
    joined.target_source,
    joined.target_author,
    joined.target_note,
    cast(joined.covered_month_count as bigint) as covered_month_count,
    cast(joined.won_deal_count as bigint) as won_deal_count,
    cast(joined.without_amount_count as bigint) as without_amount_count,
    joined.won_amount,
    cast(joined.target_amount - joined.won_amount as decimal(18, 2)) as gap_amount,
    refresh.as_of_at
from joined
cross join {{ source('settings', 'refresh') }} as refresh
left join {{ ref('stg_crm__users') }} as users on joined.owner_id = users.user_id
