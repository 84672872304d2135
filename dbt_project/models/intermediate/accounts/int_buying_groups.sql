-- Where a criterion rolls up, there is a second count of each account, with the people of those that are below it, as long as they are.
-- Computed only where a criterion asks.
with asked as (
    select distinct is_rolled_up
    from {{ source('settings', 'criteria') }}
    where attribute in (
        {%- for column in ['engaged_person_count', 'engaged_function_count', 'buying_group_pct'] %}
        '{{ column }}', '{{ rolled_up(column) }}'{{ ',' if not loop.last }}
        {%- endfor %}
    )
),

rules as (
    select * from {{ source('settings', 'people_rules') }}
),

own_spans as (
    select * from {{ ref('int_people__functions') }}
),

seen_spans as (
    select
        own_spans.account_id,
        asked.is_rolled_up,
        own_spans.contact_id,
        own_spans.job_function,
        own_spans.from_at,
        own_spans.until_at
    from own_spans
    cross join asked

    union all

    select
        descendants.account_id,
        asked.is_rolled_up,
        own_spans.contact_id,
        own_spans.job_function,
        case when own_spans.from_at > descendants.valid_from then own_spans.from_at else descendants.valid_from end as from_at,
        case when own_spans.until_at < descendants.valid_to then own_spans.until_at else descendants.valid_to end as until_at
    from own_spans
    inner join {{ ref('int_account_descendants') }} as descendants on own_spans.account_id = descendants.below_account_id
    cross join asked
    where asked.is_rolled_up
),

spans as (
    select * from seen_spans
    where until_at > from_at
),

-- Who or what is counted: each person, and each function that any person has.
subjects as (
    select
        account_id,
        is_rolled_up,
        'person' as kind,
        contact_id as subject,
        from_at,
        until_at
    from spans

    union all

    select
        account_id,
        is_rolled_up,
        'function' as kind,
        job_function as subject,
        from_at,
        until_at
    from spans
    where job_function is not null and job_function <> ''
),

-- Spans that touch or overlap become one.
marked as (
    select
        subjects.*,
        case
            when
                from_at <= max(until_at) over (
                    partition by account_id, is_rolled_up, kind, subject
                    order by from_at, until_at
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
            partition by account_id, is_rolled_up, kind, subject
            order by from_at, until_at
            rows between unbounded preceding and current row
        ) as run_no
    from marked
),

runs as (
    select
        account_id,
        is_rolled_up,
        kind,
        subject,
        min(from_at) as from_at,
        max(until_at) as until_at
    from numbered
    group by account_id, is_rolled_up, kind, subject, run_no
),

steps as (
    select
        account_id,
        is_rolled_up,
        kind,
        subject,
        from_at as step_at,
        1 as step
    from runs

    union all

    select
        account_id,
        is_rolled_up,
        kind,
        subject,
        until_at as step_at,
        -1 as step
    from runs
),

changes as (
    select
        steps.account_id,
        steps.is_rolled_up,
        steps.step_at,
        sum(case when steps.kind = 'person' then steps.step else 0 end) as persons,
        sum(case when steps.kind = 'function' then steps.step else 0 end) as functions,
        sum(case when steps.kind = 'function' and wanted.job_function is not null then steps.step else 0 end)
            as group_functions
    from steps
    left join {{ source('settings', 'buying_group') }} as wanted on steps.subject = wanted.job_function
    group by steps.account_id, steps.is_rolled_up, steps.step_at
),

-- Nobody is engaged before the first touchpoint: a fact and not a gap, from the day on which anything was recorded at all.
beginnings as (
    select
        accounts.account_id,
        asked.is_rolled_up,
        first_signal.first_at as step_at,
        0 as persons,
        0 as functions,
        0 as group_functions
    from {{ ref('int_accounts') }} as accounts
    cross join asked
    cross join (select cast(cast(min(first_occurred_at) as date) as timestamp) as first_at from {{ ref('int_signals') }}) as first_signal
    where first_signal.first_at is not null
),

all_changes as (
    select
        account_id,
        is_rolled_up,
        step_at,
        sum(persons) as persons,
        sum(functions) as functions,
        sum(group_functions) as group_functions
    from (
        select * from changes
        union all
        select * from beginnings
    ) as both_kinds
    group by account_id, is_rolled_up, step_at
),

counted as (
    select
        account_id,
        is_rolled_up,
        step_at,
        cast(sum(persons) over (partition by account_id, is_rolled_up order by step_at) as bigint) as engaged_person_count,
        cast(sum(functions) over (partition by account_id, is_rolled_up order by step_at) as bigint) as engaged_function_count,
        cast(sum(group_functions) over (partition by account_id, is_rolled_up order by step_at) as bigint) as group_function_count,
        lead(step_at) over (partition by account_id, is_rolled_up order by step_at) as next_at
    from all_changes
)

select
    counted.account_id,
    counted.is_rolled_up,
    counted.step_at as valid_from,
    coalesce(counted.next_at, {{ end_of_time() }}) as valid_to,
    counted.engaged_person_count,
    counted.engaged_function_count,
    case
        when rules.group_size > 0
            then cast({{ integer_divide('100 * counted.group_function_count', 'rules.group_size') }} as bigint)
    end as buying_group_pct
from counted
cross join rules
where counted.step_at <= {{ as_of_at() }}
