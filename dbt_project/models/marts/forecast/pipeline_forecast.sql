with periods as (
    select * from {{ source('settings', 'forecast_periods') }}
),

users as (
    select * from {{ ref('stg_crm__users') }}
),

open_deals as (
    select
        coalesce(owner_id, '(none)') as owner_id,
        periods.period_start,
        count(*) as open_deal_count,
        sum(coalesce(amount, 0)) as open_amount,
        -- Rounded deal by deal, so that the sum does not depend on their order.
        sum(cast(coalesce(amount, 0) * stage_win_rate as decimal(18, 2))) as stage_weighted_amount,
        sum(coalesce(expected_value, 0)) as model_weighted_amount
    from {{ ref('scored_opportunities') }} as deals
    inner join periods on deals.assumed_close_date >= periods.period_start and deals.assumed_close_date < periods.period_end
    group by coalesce(owner_id, '(none)'), periods.period_start
),

won_deals as (
    select
        coalesce(deals.owner_id, '(none)') as owner_id,
        periods.period_start,
        count(*) as won_deal_count,
        sum(coalesce(deals.amount, 0)) as won_amount
    from {{ ref('int_deals') }} as deals
    inner join periods on deals.closed_at >= periods.period_start and deals.closed_at < periods.period_end
    where deals.status = 'won'
    group by coalesce(deals.owner_id, '(none)'), periods.period_start
),

targets as (
    select
        owner_id,
        period_start,
        target_amount
    from {{ ref('targets') }}
    where period_type = 'month' and target_amount is not null
),

-- What the model, as it was made newest, and people say of the same month.
said as (
    select * from {{ ref('forecast_comparison') }}
    where dimension = 'owner' and period_type = 'month'
),

cells as (
    select owner_id, period_start from open_deals
    union
    select owner_id, period_start from won_deals
    union
    select owner_id, period_start from targets
    union
    select
        label as owner_id,
        period_start
    from said
    where
        submitted_commit_amount is not null
        or submitted_best_case_amount is not null
        or submitted_manager_amount is not null
        or override_amount is not null
)

select
    cells.period_start,
    periods.period_label,
    cells.owner_id,
    coalesce(users.user_name, cells.owner_id) as owner_name,
    users.team,
    targets.target_amount,
    coalesce(won_deals.won_deal_count, 0) as won_deal_count,
    cast(coalesce(won_deals.won_amount, 0) as decimal(18, 2)) as won_amount,
    coalesce(open_deals.open_deal_count, 0) as open_deal_count,
    cast(coalesce(open_deals.open_amount, 0) as decimal(18, 2)) as open_amount,
    cast(coalesce(open_deals.stage_weighted_amount, 0) as decimal(18, 2)) as stage_weighted_amount,
    cast(coalesce(open_deals.model_weighted_amount, 0) as decimal(18, 2)) as model_weighted_amount,
    cast(
        coalesce(won_deals.won_amount, 0) + coalesce(open_deals.model_weighted_amount, 0) as decimal(18, 2)
    ) as expected_amount,
    cast(targets.target_amount - coalesce(won_deals.won_amount, 0) as decimal(18, 2)) as gap_amount,
    said.run_rate_amount,
    said.forecast_low_amount,
    said.forecast_amount,
    said.forecast_high_amount,
    said.commit_amount,
    said.best_case_amount,
    said.submitted_commit_amount,
    said.submitted_best_case_amount,
    said.submitted_manager_amount,
    said.override_amount,
    said.override_expires_at,
    said.forecast_as_of_at,
    refresh.as_of_at
from cells
inner join periods on cells.period_start = periods.period_start
cross join {{ source('settings', 'refresh') }} as refresh
left join open_deals on cells.owner_id = open_deals.owner_id and cells.period_start = open_deals.period_start
left join won_deals on cells.owner_id = won_deals.owner_id and cells.period_start = won_deals.period_start
left join targets on cells.owner_id = targets.owner_id and cells.period_start = targets.period_start
left join users on cells.owner_id = users.user_id
left join said on cells.owner_id = said.label and cells.period_start = said.period_start
