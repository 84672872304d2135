-- Signs of danger of open deals, by one definition for two uses: as of now, and as of earlier beginnings of a month, from which it is known
-- what became of the deals. is_present: 1 or 0; empty where it cannot be told. Of several beginnings of a month one counts, drawn
-- by the day on which the deal was opened, so that no deal counts twice.
with rules as (
    select * from {{ source('settings', 'deal_risk_rules') }}
),

moments as (
    select
        seen_at,
        seen_at as limit_at,
        -- Days count as a whole: what happened on the day of a past moment was not yet known at its first instant.
        cast({{ dbt.dateadd('day', -1, 'seen_at') }} as date) as until_date,
        0 as is_now
    from {{ source('settings', 'deal_risk_moments') }}

    union all

    select
        as_of_at as seen_at,
        {{ end_of_time() }} as limit_at,
        as_of_date as until_date,
        1 as is_now
    from {{ source('settings', 'refresh') }}
),

watched as (
    select * from {{ ref('int_deals__watched') }}
),

open_spans as (
    select
        history.*,
        watched.is_drawn
    from {{ ref('int_deals__history') }} as history
    inner join watched on history.opportunity_id = watched.opportunity_id
    where history.status = 'open'
),

seen as (
    select
        history.opportunity_id,
        history.account_id,
        history.stage,
        history.expected_close_date,
        coalesce(history.opened_at, history.valid_from) as opened_at,
        moments.seen_at,
        moments.limit_at,
        moments.until_date,
        moments.is_now,
        row_number() over (partition by history.opportunity_id, moments.is_now order by moments.seen_at) as moment_no,
        count(*) over (partition by history.opportunity_id, moments.is_now) as moment_count
    from open_spans as history
    inner join moments on history.valid_from <= moments.seen_at and history.valid_to > moments.seen_at
    where moments.is_now = 1 or history.is_drawn = 1
),

subjects as (
    select
        seen.*,
        {{ id_key('account_id') }} as account_key
    from seen
    where
        is_now = 1
        or moment_no
        = 1 + mod({{ days_between("cast('1900-01-01' as date)", 'cast(opened_at as date)') }}, moment_count)
),

stuck as (
    select
        subjects.opportunity_id,
        subjects.seen_at,
        subjects.until_date,
        cast(runs.entered_at as date) as entered_date,
        case when stage_limits.run_count >= rules.least_deals then stage_limits.limit_days end as limit_days
    from subjects
    cross join rules
    inner join {{ ref('int_deals__stage_runs') }} as runs
        on
            subjects.opportunity_id = runs.opportunity_id
            and subjects.seen_at >= runs.entered_at
            and subjects.seen_at < runs.left_at
    left join {{ ref('int_deals__stage_limits') }} as stage_limits
        on runs.stage = stage_limits.stage and subjects.limit_at = stage_limits.known_at
),

promises as (
    select
        opportunity_id,
        valid_from,
        expected_close_date,
        lag(expected_close_date) over (partition by opportunity_id order by valid_from) as promised_before
    from open_spans
),

pushes as (
    select
        opportunity_id,
        valid_from as pushed_at,
        row_number() over (partition by opportunity_id order by valid_from) as push_no
    from promises
    where expected_close_date > promised_before
),

pushed as (
    select
        subjects.opportunity_id,
        subjects.seen_at,
        max(pushes.push_no) as push_count,
        max(case when pushes.push_no = rules.pushes then pushes.pushed_at end) as often_since_at
    from subjects
    cross join rules
    inner join pushes on subjects.opportunity_id = pushes.opportunity_id and subjects.seen_at >= pushes.pushed_at
    group by subjects.opportunity_id, subjects.seen_at
),

recorded as (
    select min(first_occurred_at) as first_at
    from {{ ref('int_signals') }}
),

-- When each person of the account last did something, of what counts as engagement; nobody in particular is a person of no name.
last_touches as (
    select
        subjects.opportunity_id,
        subjects.seen_at,
        daily.contact_key,
        max(daily.event_date) as last_date
    from subjects
    inner join {{ ref('int_touchpoints__daily') }} as daily
        on
            subjects.account_key = daily.account_key
            and subjects.until_date >= daily.event_date
            and subjects.until_date >= daily.known_date
    inner join {{ source('settings', 'engaging_signals') }} as signals on daily.signal = signals.signal
    group by subjects.opportunity_id, subjects.seen_at, daily.contact_key
),

touches as (
    select
        opportunity_id,
        seen_at,
        contact_key,
        last_date,
        row_number() over (
            partition by opportunity_id, seen_at
            order by case when contact_key is null then 1 else 0 end, last_date desc nulls last, contact_key
        ) as person_no
    from last_touches
),

engagement as (
    select
        touches.opportunity_id,
        touches.seen_at,
        max(touches.last_date) as last_date,
        max(case when touches.contact_key is not null and touches.person_no = rules.least_people then touches.last_date end)
            as enough_until_date,
        sum(
            case
                when
                    touches.contact_key is not null
                    and {{ days_between('touches.last_date', 'subjects.until_date') }} < rules.people_days
                    then 1
                else 0
            end
        ) as people_count
    from touches
    cross join rules
    inner join subjects on touches.opportunity_id = subjects.opportunity_id and touches.seen_at = subjects.seen_at
    group by touches.opportunity_id, touches.seen_at
),

measured as (
    select
        opportunity_id,
        seen_at,
        'stuck' as risk,
        {{ days_between('entered_date', 'until_date') }} as found_value,
        limit_days as limit_value,
        case when {{ days_between('entered_date', 'until_date') }} > limit_days then 1 when limit_days is not null then 0 end
            as is_present,
        cast({{ dbt.dateadd('day', 'cast(limit_days + 1 as integer)', 'entered_date') }} as date) as since_date
    from stuck

    union all

    select
        subjects.opportunity_id,
        subjects.seen_at,
        'overdue' as risk,
        {{ days_between('subjects.expected_close_date', 'subjects.until_date') }} as found_value,
        rules.overdue_days as limit_value,
        case
            when {{ days_between('subjects.expected_close_date', 'subjects.until_date') }} > rules.overdue_days then 1
            else 0
        end as is_present,
        cast({{ dbt.dateadd('day', 'rules.overdue_days + 1', 'subjects.expected_close_date') }} as date) as since_date
    from subjects
    cross join rules
    where subjects.expected_close_date is not null

    union all

    select
        subjects.opportunity_id,
        subjects.seen_at,
        'pushed_often' as risk,
        coalesce(pushed.push_count, 0) as found_value,
        rules.pushes as limit_value,
        case when pushed.push_count >= rules.pushes then 1 else 0 end as is_present,
        cast(pushed.often_since_at as date) as since_date
    from subjects
    cross join rules
    left join pushed on subjects.opportunity_id = pushed.opportunity_id and subjects.seen_at = pushed.seen_at
    where subjects.expected_close_date is not null

    union all

    -- Without any sign of the account its silence began when the deal was opened.
    select
        subjects.opportunity_id,
        subjects.seen_at,
        'no_activity' as risk,
        {{ days_between('coalesce(engagement.last_date, cast(subjects.opened_at as date))', 'subjects.until_date') }} as found_value,
        rules.silent_days as limit_value,
        case
            when
                {{ days_between('coalesce(engagement.last_date, cast(subjects.opened_at as date))', 'subjects.until_date') }}
                >= rules.silent_days
                then 1
            else 0
        end as is_present,
        cast(
            {{ dbt.dateadd('day', 'rules.silent_days', 'coalesce(engagement.last_date, cast(subjects.opened_at as date))') }}
            as date
        ) as since_date
    from subjects
    cross join rules
    cross join recorded
    left join engagement on subjects.opportunity_id = engagement.opportunity_id and subjects.seen_at = engagement.seen_at
    where recorded.first_at <= {{ dbt.dateadd('day', '-rules.silent_days', 'subjects.seen_at') }}

    union all

    select
        subjects.opportunity_id,
        subjects.seen_at,
        'single_threaded' as risk,
        coalesce(engagement.people_count, 0) as found_value,
        rules.least_people as limit_value,
        case when coalesce(engagement.people_count, 0) < rules.least_people then 1 else 0 end as is_present,
        case
            when engagement.enough_until_date is null then cast(subjects.opened_at as date)
            else cast({{ dbt.dateadd('day', 'rules.people_days', 'engagement.enough_until_date') }} as date)
        end as since_date
    from subjects
    cross join rules
    cross join recorded
    left join engagement on subjects.opportunity_id = engagement.opportunity_id and subjects.seen_at = engagement.seen_at
    where recorded.first_at <= {{ dbt.dateadd('day', '-rules.people_days', 'subjects.seen_at') }}
)

select
    measured.opportunity_id,
    measured.seen_at,
    subjects.is_now,
    measured.risk,
    cast(measured.is_present as integer) as is_present,
    cast(measured.found_value as bigint) as found_value,
    cast(measured.limit_value as bigint) as limit_value,
    measured.since_date
from measured
inner join subjects on measured.opportunity_id = subjects.opportunity_id and measured.seen_at = subjects.seen_at
