with deals as (
    select * from {{ ref('int_deals__valued') }}
    where status = 'open'
),

accounts as (
    select * from {{ ref('scored_accounts') }}
),

at_opening as (
    select
        opportunity_id,
        total_points,
        win_probability
    from {{ ref('int_deals__scored') }}
),

stages as (
    select * from {{ ref('int_stage_win_rates') }}
),

card as (
    select * from {{ source('settings', 'scorecard') }}
),

overall as (
    select
        coalesce(
            1.0 * sum(case when status = 'won' then 1 else 0 end)
            / nullif(sum(case when status in ('won', 'lost') then 1 else 0 end), 0), card.base_rate
        ) as win_rate
    from {{ ref('int_deals') }}
    cross join card
    group by card.base_rate
),

rated as (
    select
        deals.*,
        coalesce(stages.win_rate, overall.win_rate, card.base_rate) as stage_win_rate,
        coalesce(overall.win_rate, card.base_rate) as base_rate,
        at_opening.total_points as points_at_opening,
        at_opening.win_probability as account_win_probability
    from deals
    cross join card
    left join overall on true
    left join stages on deals.stage = stages.stage
    left join at_opening on deals.opportunity_id = at_opening.opportunity_id
),

odds as (
    select
        rated.*,
        least(greatest(rated.stage_win_rate, 0.001), 0.999) as stage_rate,
        least(greatest(rated.base_rate, 0.001), 0.999) as overall_rate,
        least(greatest(coalesce(rated.account_win_probability, rated.base_rate), 0.001), 0.999) as account_rate
    from rated
),

-- What the stage says and what the account says are taken as independent evidence: their odds multiply.
combined as (
    select
        odds.*,
        (odds.stage_rate / (1 - odds.stage_rate))
        * (odds.account_rate / (1 - odds.account_rate))
        / (odds.overall_rate / (1 - odds.overall_rate)) as win_odds
    from odds
)

select
    combined.opportunity_id,
    combined.opportunity_name,
    combined.account_id,
    accounts.account_name,
    combined.owner_id,
    combined.product,
    combined.stage,
    combined.opened_at,
    combined.value_amount as amount,
    combined.value_source as amount_source,
    combined.expected_close_date,
    -- A promised date that has passed, or none at all, is replaced by the usual length of a won deal, and never by the past.
    greatest(
        case
            when combined.expected_close_date >= refresh.as_of_date then combined.expected_close_date
            else
                cast(
                    {{ dbt.dateadd('day', 'combined.median_cycle_days', 'coalesce(combined.opened_at, refresh.as_of_at)') }}
                    as date
                )
        end,
        refresh.as_of_date
    ) as assumed_close_date,
    accounts.cell,
    accounts.total_points,
    combined.points_at_opening,
    cast(combined.stage_win_rate as double) as stage_win_rate,
    cast(combined.win_odds / (1 + combined.win_odds) as double) as win_probability,
    cast(combined.value_amount * (combined.win_odds / (1 + combined.win_odds)) as decimal(18, 2)) as expected_value,
    card.scorecard_version,
    refresh.as_of_at
from combined
cross join card
cross join {{ source('settings', 'refresh') }} as refresh
left join accounts on combined.account_id = accounts.account_id
