-- A person is engaged from the day after a touchpoint was known until so many days after it happened. Days count as a whole and only
-- once they are over, so that a deal opened on a day sees nothing that came later on that day. Computed only where a criterion asks.
with rules as (
    select rules.*
    from {{ source('settings', 'people_rules') }} as rules
    where
        exists (
            select 1 from {{ source('settings', 'criteria') }}
            where attribute in ('engaged_person_count', 'engaged_function_count', 'buying_group_pct')
        )
),

spans as (
    select
        daily.account_id,
        daily.contact_id,
        contacts.job_function,
        cast({{ dbt.dateadd('day', 1, 'daily.known_date') }} as date) as from_date,
        max(cast({{ dbt.dateadd('day', 'rules.engaged_days + 1', 'daily.event_date') }} as date)) as until_date
    from {{ ref('int_touchpoints__daily') }} as daily
    cross join rules
    inner join {{ source('settings', 'engaging_signals') }} as engaging on daily.signal = engaging.signal
    inner join {{ ref('int_contacts') }} as contacts on daily.contact_id = contacts.contact_id
    where daily.account_id is not null
    group by daily.account_id, daily.contact_id, contacts.job_function, daily.known_date
),

-- Who or what is counted: each person, and each function that any person has.
subjects as (
    select
        account_id,
        'person' as kind,
        contact_id as subject,
        from_date,
        until_date
    from spans
    where until_date > from_date

    union all

    select
        account_id,
        'function' as kind,
        job_function as subject,
        from_date,
        until_date
    from spans
    where until_date > from_date and job_function is not null and job_function <> ''
),

-- Spans that touch or overlap become one.
marked as (
    select
        subjects.*,
        case
            when
                from_date <= max(until_date) over (
                    partition by account_id, kind, subject
                    order by from_date, until_date
                    rows between unbounded preceding and 1 preceding
                )
                then 0
            else 1
        end as is_start
    from subjects
),

numbered as (
    select
        marked.*,
        sum(is_start) over (
            partition by account_id, kind, subject
            order by from_date, until_date
            rows between unbounded preceding and current row
        ) as run_no
    from marked
),

runs as (
    select
        account_id,
        kind,
        subject,
        min(from_date) as from_date,
        max(until_date) as until_date
    from numbered
    group by account_id, kind, subject, run_no
),

steps as (
    select
        account_id,
        kind,
        subject,
        from_date as step_date,
        1 as step
    from runs

    union all

    select
        account_id,
        kind,
        subject,
        until_date as step_date,
        -1 as step
    from runs
),

changes as (
    select
        steps.account_id,
        steps.step_date,
        sum(case when steps.kind = 'person' then steps.step else 0 end) as persons,
        sum(case when steps.kind = 'function' then steps.step else 0 end) as functions,
        sum(case when steps.kind = 'function' and wanted.job_function is not null then steps.step else 0 end)
            as group_functions
    from steps
    left join {{ source('settings', 'buying_group') }} as wanted on steps.subject = wanted.job_function
    group by steps.account_id, steps.step_date
),

-- Nobody is engaged before the first touchpoint: a fact and not a gap, from the day on which anything was recorded at all.
beginnings as (
    select
        accounts.account_id,
        first_signal.first_date as step_date,
        0 as persons,
        0 as functions,
        0 as group_functions
    from {{ ref('int_accounts') }} as accounts
    cross join rules
    cross join (select cast(min(first_occurred_at) as date) as first_date from {{ ref('int_signals') }}) as first_signal
    where first_signal.first_date is not null
),

all_changes as (
    select
        account_id,
        step_date,
        sum(persons) as persons,
        sum(functions) as functions,
        sum(group_functions) as group_functions
    from (
        select * from changes
        union all
        select * from beginnings
    ) as both_kinds
    group by account_id, step_date
),

counted as (
    select
        account_id,
        step_date,
        cast(sum(persons) over (partition by account_id order by step_date) as bigint) as engaged_person_count,
        cast(sum(functions) over (partition by account_id order by step_date) as bigint) as engaged_function_count,
        cast(sum(group_functions) over (partition by account_id order by step_date) as bigint) as group_function_count,
        lead(step_date) over (partition by account_id order by step_date) as next_date
    from all_changes
)

select
    counted.account_id,
    cast(counted.step_date as timestamp) as valid_from,
    coalesce(cast(counted.next_date as timestamp), {{ end_of_time() }}) as valid_to,
    counted.engaged_person_count,
    counted.engaged_function_count,
    case
        when rules.group_size > 0
            then cast({{ integer_divide('100 * counted.group_function_count', 'rules.group_size') }} as bigint)
    end as buying_group_pct
from counted
cross join rules
where cast(counted.step_date as timestamp) <= {{ as_of_at() }}
