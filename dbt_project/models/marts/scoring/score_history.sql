-- Recorded days, and after them today as it stands: today's rows are what the next day's refresh records.
{%- set facts = [
    'state', 'owner_id', 'segment', 'fit_points', 'engagement_points', 'adjustment_points', 'total_points', 'fit_grade',
    'engagement_level', 'cell', 'next_action', 'win_probability', 'scorecard_version', 'bands_digest',
] %}

with refresh as (
    select * from {{ source('settings', 'refresh') }}
),

criteria as (
    select
        criterion,
        row_number() over (order by criterion) as criterion_no
    from {{ source('settings', 'scorecard_bands') }}
    where segment = ''
    group by criterion
),

-- One number per account that changes when a band does, so that only accounts that changed are compared criterion by criterion.
-- Within a version numbers of criteria and bands never change; squares tell apart moves that cancel in the sum.
digests as (
    select
        contributions.account_id,
        cast(
            sum(
                (criteria.criterion_no * 1000 + contributions.band_no)
                * (criteria.criterion_no * 1000 + contributions.band_no)
            ) as bigint
        ) as bands_digest
    from {{ ref('score_contributions') }} as contributions
    inner join criteria on contributions.criterion = criteria.criterion
    group by contributions.account_id
),

recorded as (
    select * from {{ ref('int_scores__recorded') }}
),

-- An account that was deleted, or merged into another, is gone from a day on.
current_accounts as (
    select
        coalesce(accounts.account_id, recorded.account_id) as account_id,
        refresh.as_of_date as from_date,
        coalesce(accounts.state, 'gone') as state,
        accounts.owner_id,
        accounts.segment,
        accounts.fit_points,
        accounts.engagement_points,
        accounts.adjustment_points,
        accounts.total_points,
        accounts.fit_grade,
        accounts.engagement_level,
        accounts.cell,
        accounts.next_action,
        case
            when accounts.next_action is null then null
            when accounts.next_action = recorded.next_action then recorded.action_from_date
            else refresh.as_of_date
        end as action_from_date,
        accounts.win_probability,
        accounts.scorecard_version,
        digests.bands_digest,
        recorded.account_id is null
        {%- for fact in facts if fact not in ('state', 'bands_digest') %}
        or accounts.{{ fact }} is distinct from recorded.{{ fact }}
        {%- endfor %}
        or coalesce(accounts.state, 'gone') <> recorded.state
        or digests.bands_digest is distinct from recorded.bands_digest as is_changed
    from {{ ref('scored_accounts') }} as accounts
    left join digests on accounts.account_id = digests.account_id
    full outer join recorded on accounts.account_id = recorded.account_id
    cross join refresh
),

-- A whole day repeats what did not change: its rows begin before it, and stand only where the window begins with that day.
earlier as (
    select accounts.*
    from {{ source('history', 'score_accounts') }} as accounts
    inner join {{ ref('int_score_days') }} as days on accounts.record_date = days.record_date
    where days.is_in_window and (days.is_first or accounts.from_date = accounts.record_date)
),

runs as (
    select
        account_id,
        from_date,
        action_from_date,
        {{ facts | join(',\n        ') }}
    from earlier

    union all

    select
        account_id,
        from_date,
        action_from_date,
        {{ facts | join(',\n        ') }}
    from current_accounts
    where is_changed
)

select
    account_id,
    from_date,
    lead(from_date) over (partition by account_id order by from_date) as until_date,
    state,
    owner_id,
    segment,
    fit_points,
    engagement_points,
    adjustment_points,
    total_points,
    fit_grade,
    engagement_level,
    cell,
    next_action,
    action_from_date,
    win_probability,
    scorecard_version,
    bands_digest
from runs
