-- What the newest record of each account says, from the last whole day on.
with numbered as (
    select
        accounts.*,
        row_number() over (partition by accounts.account_id order by accounts.record_date desc nulls last) as newest_first
    from {{ source('history', 'score_accounts') }} as accounts
    inner join {{ ref('int_score_days') }} as days on accounts.record_date = days.record_date
    where days.is_in_state
)

select
    account_id,
    record_date,
    from_date,
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
from numbered
where newest_first = 1
