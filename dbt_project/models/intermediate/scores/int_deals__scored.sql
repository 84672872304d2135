-- Deals that the card learnt from count with the points of a fit that had not seen them, where the fit has kept those.
with totals as (
    select
        spine_id,
        cast(sum(case when kind = 'explicit' then points else 0 end) as bigint) as fit_points,
        cast(sum(case when kind = 'implicit' then points else 0 end) as bigint) as engagement_points
    from {{ ref('int_deals__points') }}
    group by spine_id
),

scored as (
    select
        totals.spine_id,
        coalesce(out_of_fold.fit_points, totals.fit_points) as fit_points,
        coalesce(out_of_fold.engagement_points, totals.engagement_points) as engagement_points,
        out_of_fold.spine_id is not null as is_out_of_fold
    from totals
    left join {{ source('settings', 'out_of_fold_points') }} as out_of_fold on totals.spine_id = out_of_fold.spine_id
)

select
    deals.spine_id as opportunity_id,
    deals.account_id,
    deals.as_of_at as opened_at,
    deals.closed_at,
    deals.is_won,
    deals.amount,
    scored.fit_points,
    scored.engagement_points,
    scored.fit_points + scored.engagement_points as total_points,
    scored.is_out_of_fold,
    {{ fit_grade('scored.fit_points', 'card') }} || {{ engagement_level('scored.engagement_points', 'card') }} as cell,
    calibration.win_probability
from {{ ref('int_spine__deals') }} as deals
inner join scored on deals.spine_id = scored.spine_id
cross join {{ source('settings', 'scorecard') }} as card
inner join {{ source('settings', 'scorecard_calibration') }} as calibration
    on
        card.scorecard_version = calibration.scorecard_version
        and {{ calibrated_points('scored.fit_points + scored.engagement_points', 'card') }} = calibration.points
