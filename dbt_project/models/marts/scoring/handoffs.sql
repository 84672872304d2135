-- A hand-over begins on the day on which an account enters a cell with the hand-over action, and ends when it leaves those cells.
with rules as (
    select * from {{ source('settings', 'matrix_rules') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

numbered as (
    select
        history.*,
        row_number() over (
            partition by history.account_id, history.action_from_date order by history.from_date
        ) as first_first,
        row_number() over (
            partition by history.account_id, history.action_from_date order by history.from_date desc nulls last
        ) as last_first
    from {{ ref('score_history') }} as history
    cross join rules
    where history.next_action = rules.handoff_action
),

crossings as (
    select
        entered.account_id,
        entered.action_from_date as handed_over_date,
        entered.owner_id,
        entered.cell,
        entered.total_points,
        entered.win_probability,
        entered.scorecard_version,
        stayed.until_date as left_date,
        lead(entered.action_from_date) over (
            partition by entered.account_id order by entered.action_from_date
        ) as next_handed_over_date
    from numbered as entered
    inner join numbered as stayed
        on
            entered.account_id = stayed.account_id
            and entered.action_from_date = stayed.action_from_date
            and stayed.last_first = 1
    where entered.first_first = 1
),

-- The row that ended when the hand-over began; none where the history begins with it.
entries as (
    select
        crossings.*,
        earlier.cell as from_cell,
        earlier.state as from_state
    from crossings
    left join {{ ref('score_history') }} as earlier
        on crossings.account_id = earlier.account_id and crossings.handed_over_date = earlier.until_date
),

follow_ups as (
    select
        entries.account_id,
        entries.handed_over_date,
        min(activities.occurred_at) as first_follow_up_at
    from entries
    inner join survivors on entries.account_id = survivors.surviving_account_id
    inner join {{ ref('int_handoff_activities') }} as activities on survivors.account_id = activities.account_id
    where
        activities.occurred_date >= entries.handed_over_date
        and (entries.next_handed_over_date is null or activities.occurred_date < entries.next_handed_over_date)
    group by entries.account_id, entries.handed_over_date
),

answers as (
    select
        entries.account_id,
        entries.handed_over_date,
        feedback.decision,
        feedback.note,
        feedback.author,
        feedback.occurred_at,
        row_number() over (
            partition by entries.account_id, entries.handed_over_date
            order by feedback.occurred_at desc nulls last, feedback.feedback_id desc nulls last
        ) as newest_first
    from entries
    inner join survivors on entries.account_id = survivors.surviving_account_id
    inner join {{ ref('stg_scoring__handoff_feedback') }} as feedback on survivors.account_id = feedback.account_id
    where
        cast(feedback.occurred_at as date) >= entries.handed_over_date
        and (
            entries.next_handed_over_date is null
            or cast(feedback.occurred_at as date) < entries.next_handed_over_date
        )
),

joined as (
    select
        entries.*,
        cast({{ dbt.dateadd('day', 'rules.follow_up_days', 'entries.handed_over_date') }} as date) as due_date,
        follow_ups.first_follow_up_at,
        cast(follow_ups.first_follow_up_at as date) as follow_up_date,
        answers.decision,
        answers.note,
        answers.author,
        answers.occurred_at as answered_at,
        refresh.as_of_date,
        refresh.as_of_at
    from entries
    cross join rules
    cross join refresh
    left join follow_ups
        on entries.account_id = follow_ups.account_id and entries.handed_over_date = follow_ups.handed_over_date
    left join answers
        on
            entries.account_id = answers.account_id
            and entries.handed_over_date = answers.handed_over_date
            and answers.newest_first = 1
)

select
    joined.account_id,
    joined.handed_over_date,
    accounts.account_name,
    joined.owner_id as handed_to,
    coalesce(joined.from_cell, joined.from_state) as from_cell,
    joined.cell,
    joined.total_points,
    joined.win_probability,
    joined.due_date,
    joined.first_follow_up_at,
    {{ days_between('joined.handed_over_date', 'joined.follow_up_date') }} as follow_up_days,
    joined.decision as feedback,
    joined.note as feedback_note,
    joined.author as feedback_author,
    joined.answered_at as feedback_at,
    joined.left_date,
    case
        when joined.decision = 'sent_back' then 'sent back'
        when joined.follow_up_date <= joined.due_date then 'followed up'
        when joined.first_follow_up_at is not null then 'followed up late'
        when joined.left_date <= joined.due_date then 'left'
        when joined.due_date < joined.as_of_date then 'overdue'
        else 'open'
    end as status,
    joined.scorecard_version,
    joined.as_of_at
from joined
left join {{ ref('scored_accounts') }} as accounts on joined.account_id = accounts.account_id
