-- Recorded changes, and today's: the points of now against those of the last recorded day.
with refresh as (
    select * from {{ source('settings', 'refresh') }}
),

days as (
    select * from {{ ref('int_score_days') }}
),

-- Only where there is a day to compare with; on the first day of all nothing has changed.
changed as (
    select
        history.account_id,
        history.from_date as change_date,
        history.state,
        history.segment,
        history.scorecard_version,
        recorded.state as state_before,
        recorded.segment as segment_before,
        recorded.scorecard_version as scorecard_version_before
    from {{ ref('score_history') }} as history
    cross join refresh
    left join {{ ref('int_scores__recorded') }} as recorded on history.account_id = recorded.account_id
    where history.from_date = refresh.as_of_date and exists (select 1 from days)
),

points_before as (
    select
        numbered.account_id,
        numbered.criterion,
        numbered.kind,
        numbered.points_after as points,
        numbered.band_after as band
    from (
        select
            points.*,
            row_number() over (
                partition by points.account_id, points.criterion order by points.record_date desc nulls last
            ) as newest_first
        from {{ source('history', 'score_points') }} as points
        inner join days on points.record_date = days.record_date
        inner join changed on points.account_id = changed.account_id
        where days.is_in_state
    ) as numbered
    where numbered.newest_first = 1 and numbered.points_after is not null
),

points_after as (
    select
        contributions.account_id,
        contributions.criterion,
        contributions.kind,
        contributions.points,
        contributions.band
    from {{ ref('score_contributions') }} as contributions
    inner join changed on contributions.account_id = changed.account_id
),

compared as (
    select
        coalesce(points_after.account_id, points_before.account_id) as account_id,
        coalesce(points_after.criterion, points_before.criterion) as criterion,
        coalesce(points_after.kind, points_before.kind) as kind,
        points_before.points as points_before,
        points_after.points as points_after,
        points_before.band as band_before,
        points_after.band as band_after
    from points_before
    full outer join points_after
        on points_before.account_id = points_after.account_id and points_before.criterion = points_after.criterion
    where
        points_before.points is distinct from points_after.points
        or points_before.band is distinct from points_after.band
),

-- What the card of now gives for a band of before: where that is what the account had, the account has moved and not the card.
bands as (
    select
        segment,
        criterion,
        band,
        points
    from {{ source('settings', 'scorecard_bands') }}
),

all_changes as (
    select
        points.account_id,
        points.record_date as change_date,
        points.criterion,
        points.kind,
        points.points_before,
        points.points_after,
        points.band_before,
        points.band_after,
        points.reason
    from {{ source('history', 'score_points') }} as points
    inner join days on points.record_date = days.record_date
    where points.reason is not null and days.is_in_window and not days.is_first

    union all

    select
        compared.account_id,
        changed.change_date,
        compared.criterion,
        compared.kind,
        compared.points_before,
        compared.points_after,
        compared.band_before,
        compared.band_after,
        case
            when coalesce(changed.state_before, 'gone') <> 'scored' then 'newly scored'
            when changed.state <> 'scored' then 'no longer scored'
            when compared.kind not in ('explicit', 'implicit') then 'adjustment'
            when
                changed.scorecard_version <> changed.scorecard_version_before
                and coalesce(
                    compared.band_before = compared.band_after
                    or coalesce(of_segment.points, of_everybody.points) <> compared.points_before,
                    true
                )
                then 'card'
            when changed.segment is distinct from changed.segment_before then 'segment'
            else 'band'
        end as reason
    from compared
    inner join changed on compared.account_id = changed.account_id
    left join bands as of_segment
        on
            changed.segment = of_segment.segment
            and compared.criterion = of_segment.criterion
            and compared.band_before = of_segment.band
    left join bands as of_everybody
        on compared.criterion = of_everybody.criterion and compared.band_before = of_everybody.band and of_everybody.segment = ''
)

select
    account_id,
    change_date,
    criterion,
    kind,
    points_before,
    points_after,
    coalesce(points_after, 0) - coalesce(points_before, 0) as change_points,
    band_before,
    band_after,
    reason
from all_changes
