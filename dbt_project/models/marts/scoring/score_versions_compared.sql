with active as (
    select * from {{ ref('scored_accounts') }}
    where state = 'scored'
),

cards as (
    select * from {{ source('settings', 'shadow_scorecard') }}
),

actions as (
    select * from {{ source('settings', 'matrix_actions') }}
),

totals as (
    select
        scorecard_version,
        spine_id as account_id,
        max(segment) as segment,
        cast(sum(case when kind = 'explicit' then points else 0 end) as bigint) as fit_points,
        cast(sum(case when kind = 'implicit' then points else 0 end) as bigint) as engagement_points
    from {{ ref('int_accounts__shadow_points') }}
    group by scorecard_version, spine_id
),

graded as (
    select
        totals.*,
        active.adjustment_points,
        totals.fit_points + totals.engagement_points + active.adjustment_points as total_points,
        active.owner_id,
        active.is_holdout,
        -- As the version would grade them if it became active now.
        {{ held(fit_grade, 'totals.fit_points', 'cards', 'recorded.fit_grade', 'rules.hysteresis_points') }}
        || {{ held(engagement_level, 'totals.engagement_points', 'cards', 'recorded.engagement_level', 'rules.hysteresis_points') }}
            as cell,
        calibration.win_probability
    from totals
    inner join active on totals.account_id = active.account_id
    inner join cards on totals.scorecard_version = cards.scorecard_version
    cross join {{ source('settings', 'matrix_rules') }} as rules
    left join {{ ref('int_scores__recorded') }} as recorded on totals.account_id = recorded.account_id
    inner join {{ source('settings', 'shadow_scorecard_calibration') }} as calibration
        on
            totals.scorecard_version = calibration.scorecard_version
            and {{ calibrated_points('totals.fit_points + totals.engagement_points', 'cards') }} = calibration.points
),

ranked as (
    select
        graded.*,
        case
            when not graded.is_holdout then
                cast(
                    row_number() over (
                        partition by graded.scorecard_version, graded.is_holdout
                        order by graded.total_points desc, graded.account_id
                    ) as bigint
                )
        end as rank_no
    from graded
),

versions as (
    select
        account_id,
        scorecard_version,
        'active' as version_state,
        owner_id,
        segment,
        fit_points,
        engagement_points,
        adjustment_points,
        total_points,
        cell,
        next_action,
        win_probability,
        {{ adapter.quote('rank') }} as rank_no
    from active
    -- Nothing to compare with: scored_accounts says all that could be said here.
    where exists (select 1 from cards)

    union all

    select
        ranked.account_id,
        ranked.scorecard_version,
        'shadow' as version_state,
        ranked.owner_id,
        ranked.segment,
        ranked.fit_points,
        ranked.engagement_points,
        ranked.adjustment_points,
        ranked.total_points,
        ranked.cell,
        case when not ranked.is_holdout then actions.next_action end as next_action,
        ranked.win_probability,
        ranked.rank_no
    from ranked
    left join actions on ranked.cell = actions.cell
)

select
    versions.account_id,
    versions.scorecard_version,
    versions.version_state,
    versions.owner_id,
    versions.segment,
    versions.fit_points,
    versions.engagement_points,
    versions.adjustment_points,
    versions.total_points,
    versions.cell,
    versions.next_action,
    versions.win_probability,
    versions.rank_no as {{ adapter.quote('rank') }},
    versions.cell <> active.cell as is_other_cell,
    versions.total_points - active.total_points as points_difference,
    versions.rank_no - active.{{ adapter.quote('rank') }} as rank_difference,
    versions.win_probability - active.win_probability as win_probability_difference
from versions
inner join active on versions.account_id = active.account_id
