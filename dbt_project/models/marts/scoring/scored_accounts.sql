with accounts as (
    select * from {{ ref('int_accounts') }}
),

states as (
    select * from {{ ref('int_accounts__states') }}
),

card as (
    select * from {{ source('settings', 'scorecard') }}
),

actions as (
    select * from {{ source('settings', 'matrix_actions') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

balances as (
    select
        account_id,
        points
    from {{ ref('int_adjustments__balances') }}
    where subject_kind = 'account'
),

scored as (
    select
        of_the_card.*,
        coalesce(balances.points, 0) as adjustment_points,
        of_the_card.model_points + coalesce(balances.points, 0) as total_points
    from {{ ref('int_accounts__scored') }} as of_the_card
    left join balances on of_the_card.account_id = balances.account_id
)

select
    accounts.account_id,
    accounts.account_name,
    accounts.owner_id,
    states.state,
    states.state_reason,
    scored.segment,
    scored.fit_points,
    scored.engagement_points,
    scored.adjustment_points,
    scored.total_points,
    scored.fit_grade,
    scored.engagement_level,
    scored.cell,
    case when not accounts.is_holdout then actions.next_action end as next_action,
    accounts.is_holdout,
    scored.win_probability,
    scored.win_probability_low,
    scored.win_probability_high,
    ranks.expected_value,
    ranks.{{ adapter.quote('rank') }},
    ranks.percentile,
    reasons.top_reasons,
    card.scorecard_version,
    refresh.as_of_at
from accounts
inner join states on accounts.account_id = states.account_id
cross join card
cross join refresh
left join scored on accounts.account_id = scored.account_id
left join {{ ref('int_accounts__ranks') }} as ranks on accounts.account_id = ranks.account_id
left join actions on scored.cell = actions.cell
left join {{ ref('int_accounts__reasons') }} as reasons on accounts.account_id = reasons.account_id
