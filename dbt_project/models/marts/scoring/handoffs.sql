-- A hand-over begins at the refresh that first saw the account in a cell with the hand-over action, and ends at the one that saw it leave.
with rules as (
    select * from {{ source('settings', 'matrix_rules') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

{%- set facts = [
    'account_id', 'change', 'changed_at', 'from_cell', 'cell', 'owner_id', 'total_points', 'win_probability', 'scorecard_version',
] %}

crossings as (
    select
        {{ facts | join(',\n        ') }}
    from {{ ref('stg_scoring__handoff_crossings') }}

    union all

    select
        {{ facts | join(',\n        ') }}
    from {{ ref('int_handoffs__due') }}
),

ordered as (
    select
        crossings.*,
        lead(changed_at) over (partition by account_id order by changed_at) as next_changed_at,
        lead(change) over (partition by account_id order by changed_at) as next_change,
        lead(changed_at) over (partition by account_id, change order by changed_at) as next_of_its_kind_at
    from crossings
),

entries as (
    select
        ordered.*,
        ordered.changed_at as handed_over_at,
        ordered.next_of_its_kind_at as next_handed_over_at,
        case when ordered.next_change = 'left' then ordered.next_changed_at end as left_at,
        {{ dbt.dateadd('hour', 'rules.follow_up_hours', 'ordered.changed_at') }} as due_at
    from ordered
    cross join rules
    where ordered.change = 'entered'
),

-- What has a day and no time counts at the end of its day, so that a call of the day of the hand-over is one after it.
sales_activities as (
    select
        survivors.surviving_account_id as account_id,
        activities.occurred_at,
        {{ end_of_bare_day('activities.occurred_at') }} as counts_at
    from {{ ref('int_handoff_activities') }} as activities
    inner join survivors on activities.account_id = survivors.account_id
    -- Of years of activities only those of accounts that were ever handed over.
    where survivors.surviving_account_id in (select account_id from entries)
),

follow_ups as (
    select
        entries.account_id,
        entries.handed_over_at,
        min(activities.counts_at) as counts_at
    from entries
    inner join sales_activities as activities on entries.account_id = activities.account_id
    where
        activities.counts_at >= entries.handed_over_at
        and (entries.next_handed_over_at is null or activities.counts_at < entries.next_handed_over_at)
    group by entries.account_id, entries.handed_over_at
),

first_activities as (
    select
        account_id,
        counts_at,
        min(occurred_at) as occurred_at
    from sales_activities
    group by account_id, counts_at
),

answered as (
    select
        survivors.surviving_account_id as account_id,
        feedback.feedback_id,
        feedback.decision,
        feedback.note,
        feedback.author,
        feedback.occurred_at,
        {{ end_of_bare_day('feedback.occurred_at') }} as counts_at
    from {{ ref('stg_scoring__handoff_feedback') }} as feedback
    inner join survivors on feedback.account_id = survivors.account_id
),

answers as (
    select
        entries.account_id,
        entries.handed_over_at,
        answered.decision,
        answered.note,
        answered.author,
        answered.occurred_at,
        row_number() over (
            partition by entries.account_id, entries.handed_over_at
            order by answered.counts_at desc nulls last, answered.feedback_id desc nulls last
        ) as newest_first
    from entries
    inner join answered on entries.account_id = answered.account_id
    where
        answered.counts_at >= entries.handed_over_at
        and (entries.next_handed_over_at is null or answered.counts_at < entries.next_handed_over_at)
),

last_answers as (
    select * from answers where newest_first = 1
),

joined as (
    select
        entries.*,
        first_activities.occurred_at as first_follow_up_at,
        first_activities.counts_at as follow_up_counts_at,
        last_answers.decision,
        last_answers.note,
        last_answers.author,
        last_answers.occurred_at as answered_at,
        refresh.as_of_at
    from entries
    cross join refresh
    left join follow_ups
        on entries.account_id = follow_ups.account_id and entries.handed_over_at = follow_ups.handed_over_at
    left join first_activities
        on follow_ups.account_id = first_activities.account_id and follow_ups.counts_at = first_activities.counts_at
    left join last_answers
        on entries.account_id = last_answers.account_id and entries.handed_over_at = last_answers.handed_over_at
)

select
    joined.account_id,
    joined.handed_over_at,
    cast(joined.handed_over_at as date) as handed_over_date,
    accounts.account_name,
    joined.owner_id as handed_to,
    joined.from_cell,
    joined.cell,
    joined.total_points,
    cast(joined.win_probability as double) as win_probability,
    joined.due_at,
    joined.first_follow_up_at,
    case
        when joined.first_follow_up_at = joined.follow_up_counts_at
            then cast({{ integer_divide(seconds_between('joined.handed_over_at', 'joined.first_follow_up_at'), '60') }} as bigint)
    end as follow_up_minutes,
    {{ days_between('cast(joined.handed_over_at as date)', 'cast(joined.first_follow_up_at as date)') }} as follow_up_days,
    joined.decision as feedback,
    joined.note as feedback_note,
    joined.author as feedback_author,
    joined.answered_at as feedback_at,
    joined.left_at,
    case
        when joined.decision = 'sent_back' then 'sent back'
        when joined.first_follow_up_at <= joined.due_at then 'followed up'
        when joined.first_follow_up_at is not null then 'followed up late'
        when joined.left_at <= joined.due_at then 'left'
        when joined.due_at < joined.as_of_at then 'overdue'
        else 'open'
    end as status,
    joined.scorecard_version,
    joined.as_of_at
from joined
left join {{ ref('scored_accounts') }} as accounts on joined.account_id = accounts.account_id
