with accounts as (
    select * from {{ ref('int_accounts') }}
),

states as (
    select * from {{ ref('int_accounts__states') }}
),

contributions as (
    select * from {{ ref('score_contributions') }}
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

-- What nearly every account has is no reason: points are told apart from the mean of their criterion.
usual as (
    select
        criterion,
        cast(sum(case when kind = 'adjustment' then 0 else floor_mean end) as bigint) as points,
        row_number() over (order by criterion) as criterion_no
    from (
        select
            criterion,
            kind,
            floor(1.0 * sum(points) / count(*) + 0.5) as floor_mean
        from contributions
        group by criterion, kind
    ) as means
    group by criterion
),

-- One whole number orders them: on the side of its points first, then by distance, then by the criterion's name.
reasons_weighed as (
    select
        contributions.account_id,
        contributions.points,
        contributions.criterion,
        contributions.band,
        case when contributions.points * (contributions.points - usual.points) > 0 then 1000000000000 else 0 end
        + abs(contributions.points - usual.points) * 10000 - usual.criterion_no as strength
    from contributions
    inner join usual on contributions.criterion = usual.criterion
    where contributions.points <> 0
),

reasons_ranked as (
    select
        reasons_weighed.*,
        row_number() over (partition by account_id order by strength desc nulls last) as strongest_first
    from reasons_weighed
),

reasons_told as (
    select
        account_id,
        strongest_first,
        case when points > 0 then '+' else '' end || cast(points as {{ dbt.type_string() }})
        || ' ' || replace(criterion, '_', ' ') || ': ' || band as reason
    from reasons_ranked
    where strongest_first <= 3
),

reasons as (
    select
        account_id,
        max(case when strongest_first = 1 then reason end)
        || coalesce('; ' || max(case when strongest_first = 2 then reason end), '')
        || coalesce('; ' || max(case when strongest_first = 3 then reason end), '') as top_reasons
    from reasons_told
    group by account_id
),

scored as (
    select
        of_the_card.*,
        coalesce(balances.points, 0) as adjustment_points,
        of_the_card.model_points + coalesce(balances.points, 0) as total_points
    from {{ ref('int_accounts__scored') }} as of_the_card
    left join balances on of_the_card.account_id = balances.account_id
),

ranked as (
    select
        scored.*,
        accounts.is_holdout,
        row_number() over (
            partition by accounts.is_holdout order by scored.total_points desc, scored.account_id
        ) as rank_no,
        count(*) over (partition by accounts.is_holdout) as ranked_count
    from scored
    inner join accounts on scored.account_id = accounts.account_id
)

select
    accounts.account_id,
    accounts.account_name,
    accounts.owner_id,
    states.state,
    states.state_reason,
    ranked.segment,
    ranked.fit_points,
    ranked.engagement_points,
    ranked.adjustment_points,
    ranked.total_points,
    ranked.fit_grade,
    ranked.engagement_level,
    ranked.cell,
    case when not accounts.is_holdout then actions.next_action end as next_action,
    accounts.is_holdout,
    ranked.win_probability,
    ranked.win_probability_low,
    ranked.win_probability_high,
    {{ expected_value('ranked.win_probability', 'deal_values.deal_amount') }} as expected_value,
    case when not accounts.is_holdout then cast(ranked.rank_no as bigint) end as {{ adapter.quote('rank') }},
    case
        when not accounts.is_holdout
            then cast(100.0 * (ranked.ranked_count - ranked.rank_no) / ranked.ranked_count as double)
    end as percentile,
    reasons.top_reasons,
    card.scorecard_version,
    refresh.as_of_at
from accounts
inner join states on accounts.account_id = states.account_id
cross join card
cross join refresh
inner join {{ ref('int_accounts__deal_values') }} as deal_values on accounts.account_id = deal_values.account_id
left join ranked on accounts.account_id = ranked.account_id
left join actions on ranked.cell = actions.cell
left join reasons on accounts.account_id = reasons.account_id
