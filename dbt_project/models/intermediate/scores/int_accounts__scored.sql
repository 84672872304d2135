-- What the card alone says of an account, before anybody or any rule adds points: its cell and its chance, which the marts show and
-- conditions of rules and segments ask.
with totals as (
    select
        points.spine_id as account_id,
        max(points.segment) as segment,
        cast(sum(case when points.kind = 'explicit' then points.points else 0 end) as bigint) as fit_points,
        cast(sum(case when points.kind = 'implicit' then points.points else 0 end) as bigint) as engagement_points,
        cast(sum(points.points) as bigint) as model_points
    from {{ ref('int_accounts__points') }} as points
    inner join {{ ref('int_accounts__states') }} as states on points.spine_id = states.account_id
    where states.state = 'scored'
    group by points.spine_id
),

graded as (
    select
        totals.*,
        {{ held(fit_grade, 'totals.fit_points', 'card', 'recorded.fit_grade', 'rules.hysteresis_points') }} as fit_grade,
        {{ held(engagement_level, 'totals.engagement_points', 'card', 'recorded.engagement_level', 'rules.hysteresis_points') }}
            as engagement_level,
        calibration.win_probability,
        calibration.win_probability_low,
        calibration.win_probability_high
    from totals
    cross join {{ source('settings', 'scorecard') }} as card
    cross join {{ source('settings', 'matrix_rules') }} as rules
    left join {{ ref('int_scores__recorded') }} as recorded on totals.account_id = recorded.account_id
    inner join {{ source('settings', 'scorecard_calibration') }} as calibration
        on
            card.scorecard_version = calibration.scorecard_version
            and {{ calibrated_points('totals.model_points', 'card') }} = calibration.points
)

select
    graded.*,
    fit_grade || engagement_level as cell
from graded
