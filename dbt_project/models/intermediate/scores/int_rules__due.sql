{#- Days are counted from here; which day it is makes no difference. #}
{%- set first_day = "cast('2000-01-01' as date)" %}
-- What the rules do at this refresh and did not do before: firings, and the taking back of firings. Taken back is what an earlier version
-- of a rule did that a retroactive change replaces, and, of a rule that fires at most once in so many days, what would not have fired
-- had all events come in their order. They are landed before the marts are published, so that the next refresh finds them and
-- this is empty.
with rules as (
    select * from {{ source('settings', 'rules') }}
),

adjustments as (
    select * from {{ ref('stg_scoring__adjustments') }}
),

voids as (
    select
        void_of,
        max(case when rule_id is not null then 1 else 0 end) as is_by_rule
    from adjustments
    where operation = 'void'
    group by void_of
),

fired as (
    select
        adjustments.adjustment_id,
        adjustments.rule_id,
        adjustments.rule_version,
        adjustments.firing_slot,
        adjustments.trigger_id,
        adjustments.account_id as landed_account_id,
        adjustments.contact_id as landed_contact_id,
        case when adjustments.contact_id is null then 'account' else 'contact' end as subject_kind,
        coalesce(
            contacts.surviving_contact_id, adjustments.contact_id, accounts.surviving_account_id, adjustments.account_id
        ) as subject_id,
        adjustments.points,
        adjustments.occurred_at,
        voids.void_of is not null as is_voided
    from adjustments
    left join {{ ref('stg_crm__account_survivors') }} as accounts on adjustments.account_id = accounts.account_id
    left join {{ ref('stg_crm__contact_survivors') }} as contacts on adjustments.contact_id = contacts.contact_id
    left join voids on adjustments.adjustment_id = voids.void_of
    -- What a change of the rule took back is as if it had not fired; what a person took back has fired and does not again.
    where adjustments.rule_id is not null and adjustments.operation <> 'void' and coalesce(voids.is_by_rule, 0) = 0
),

replaced as (
    select
        fired.adjustment_id,
        fired.landed_account_id,
        fired.landed_contact_id,
        fired.is_voided,
        rules.rule_id,
        rules.rule_version,
        rules.title,
        rules.seen_at
    from fired
    inner join rules on fired.rule_id = rules.rule_id
    where
        rules.is_retroactive
        and fired.rule_version <> rules.rule_version
        and fired.occurred_at >= rules.effective_at
),

standing as (
    select fired.*
    from fired
    left join replaced on fired.adjustment_id = replaced.adjustment_id
    where replaced.adjustment_id is null
),

candidates as (
    select
        rules.*,
        coalesce(matches.contact_id, matches.account_id) as subject_id,
        matches.trigger_id,
        matches.signal,
        matches.occurred_at,
        matches.known_at,
        {{ days_between(first_day, 'matches.occurred_at') }} as day_no
    from {{ ref('int_rules__matches') }} as matches
    inner join rules on matches.rule_id = rules.rule_id
    where
        case when rules.is_retroactive then matches.occurred_at else matches.known_at end >= rules.effective_at
        and matches.occurred_at >= rules.active_from_at
        and matches.occurred_at < rules.active_to_at
),

-- Rules that fire at most once in so many days. A firing whose event the rule still holds for is decided again, all others stand as
-- they are: of other versions, of an account's state, taken back by a person.
spaced as (
    select candidates.*
    from candidates
    where frequency = 'days_apart'
),

decided_again as (
    select
        standing.adjustment_id,
        spaced.rule_id,
        spaced.subject_id,
        spaced.trigger_id
    from standing
    inner join spaced
        on
            standing.rule_id = spaced.rule_id
            and standing.rule_version = spaced.rule_version
            and standing.subject_kind = spaced.subject_kind
            and standing.subject_id = spaced.subject_id
            and standing.trigger_id = spaced.trigger_id
    where not standing.is_voided
),

fixed as (
    select
        standing.rule_id,
        standing.subject_kind,
        standing.subject_id,
        standing.trigger_id,
        {{ days_between(first_day, 'standing.occurred_at') }} as day_no
    from standing
    left join decided_again on standing.adjustment_id = decided_again.adjustment_id
    where decided_again.adjustment_id is null
),

-- Too near to one that stands, or fired for somebody else before.
kept_out as (
    select
        spaced.rule_id,
        spaced.subject_id,
        spaced.trigger_id,
        spaced.occurred_at
    from spaced
    inner join fixed
        on
            spaced.rule_id = fixed.rule_id
            and spaced.subject_kind = fixed.subject_kind
            and spaced.subject_id = fixed.subject_id
    where abs(spaced.day_no - fixed.day_no) < spaced.days_apart

    union all

    select
        spaced.rule_id,
        spaced.subject_id,
        spaced.trigger_id,
        spaced.occurred_at
    from spaced
    inner join fixed
        on
            spaced.rule_id = fixed.rule_id
            and spaced.subject_kind = fixed.subject_kind
            and spaced.trigger_id = fixed.trigger_id
),

-- Of a day, only the first event can fire.
event_days as (
    select
        spaced.*,
        row_number() over (
            partition by spaced.rule_id, spaced.subject_id, spaced.day_no order by spaced.occurred_at, spaced.trigger_id
        ) as event_no
    from spaced
    where not exists (
        select 1
        from kept_out
        where
            spaced.rule_id = kept_out.rule_id
            and spaced.subject_id = kept_out.subject_id
            and spaced.trigger_id = kept_out.trigger_id
            and spaced.occurred_at = kept_out.occurred_at
    )
),

-- Each day, and the day from which the rule could fire again: the first event on or after it is the next.
marks as (
    select
        rule_id,
        subject_id,
        day_no as from_day_no,
        day_no as mark_no,
        1 as is_event
    from event_days
    where event_no = 1

    union all

    select
        rule_id,
        subject_id,
        day_no as from_day_no,
        day_no + days_apart as mark_no,
        0 as is_event
    from event_days
    where event_no = 1
),

followers as (
    select
        marks.*,
        min(case when is_event = 1 then mark_no end) over (
            partition by rule_id, subject_id
            order by -mark_no, -is_event
            rows between unbounded preceding and current row
        ) as next_day_no
    from marks
),

first_days as (
    select
        rule_id,
        subject_id,
        min(day_no) as day_no
    from event_days
    group by rule_id, subject_id
),

next_days as (
    select
        rule_id,
        subject_id,
        from_day_no as day_no,
        next_day_no
    from followers
    where is_event = 0 and next_day_no is not null
),

firing_days as (
    {{ reached('first_days', 'next_days', ['rule_id', 'subject_id'], 'day_no', 'next_day_no') }}
),

chosen as (
    select event_days.*
    from event_days
    inner join firing_days
        on
            event_days.rule_id = firing_days.rule_id
            and event_days.subject_id = firing_days.subject_id
            and event_days.day_no = firing_days.day_no
    where event_days.event_no = 1
),

displaced as (
    select decided_again.adjustment_id
    from decided_again
    left join chosen
        on
            decided_again.rule_id = chosen.rule_id
            and decided_again.subject_id = chosen.subject_id
            and decided_again.trigger_id = chosen.trigger_id
    where chosen.trigger_id is null
),

-- How often an event has fired and was taken back: firing again, it needs another key.
fired_before as (
    select
        rule_id,
        rule_version,
        trigger_id,
        count(*) as firing_count
    from adjustments
    where rule_id is not null and operation <> 'void' and trigger_id is not null
    group by rule_id, rule_version, trigger_id
),

slotted as (
    select
        candidates.*,
        case when frequency = 'every_event' then trigger_id else 'once' end as firing_slot
    from candidates
    where frequency <> 'days_apart'
),

due_spaced as (
    select
        chosen.*,
        case
            when chosen.trigger_id = '' then cast(chosen.occurred_at as {{ dbt.type_string() }})
            when fired_before.firing_count is null then chosen.trigger_id
            else chosen.trigger_id || ', again ' || cast(fired_before.firing_count as {{ dbt.type_string() }})
        end as firing_slot
    from chosen
    left join decided_again
        on
            chosen.rule_id = decided_again.rule_id
            and chosen.subject_id = decided_again.subject_id
            and chosen.trigger_id = decided_again.trigger_id
    left join fired_before
        on
            chosen.rule_id = fired_before.rule_id
            and chosen.rule_version = fired_before.rule_version
            and chosen.trigger_id = fired_before.trigger_id
    where decided_again.adjustment_id is null
),

{%- set columns = [
    'rule_id', 'rule_version', 'title', 'note', 'operation', 'points', 'cap_points', 'is_automation', 'seen_at', 'expires_after_days',
    'subject_kind', 'subject_id', 'trigger_id', 'signal', 'occurred_at', 'known_at', 'firing_slot',
] %}

unfired as (
    select
        {%- for column in columns %}
        slotted.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from slotted
    where
        slotted.frequency <> 'every_event'
        and not exists (
            select 1
            from standing
            where
                slotted.rule_id = standing.rule_id
                and slotted.subject_kind = standing.subject_kind
                and slotted.subject_id = standing.subject_id
                and slotted.firing_slot = standing.firing_slot
        )

    union all

    -- An event fires once, also when its account was merged and parted since. Asked of these alone: all firings of a rule that fires
    -- once have the same slot, and by slot each would be compared with all others.
    select
        {%- for column in columns %}
        slotted.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from slotted
    where
        slotted.frequency = 'every_event'
        and not exists (
            select 1
            from standing
            where
                slotted.rule_id = standing.rule_id
                and slotted.subject_kind = standing.subject_kind
                and slotted.firing_slot = standing.firing_slot
        )

    union all

    select {{ columns | join(', ') }}
    from due_spaced
),

awarded as (
    select
        standing.rule_id,
        standing.subject_kind,
        standing.subject_id,
        sum(standing.points) as points
    from standing
    left join displaced on standing.adjustment_id = displaced.adjustment_id
    where displaced.adjustment_id is null
    group by standing.rule_id, standing.subject_kind, standing.subject_id
),

taken_back as (
    select
        adjustment_id,
        landed_account_id,
        landed_contact_id,
        rule_id,
        rule_version,
        title,
        seen_at as taken_back_at,
        'the rule was changed with effect on its past firings' as note
    from replaced

    union all

    select
        standing.adjustment_id,
        standing.landed_account_id,
        standing.landed_contact_id,
        rules.rule_id,
        rules.rule_version,
        rules.title,
        {{ as_of_at() }} as taken_back_at,
        'an event became known later, and this one is too near to another firing' as note
    from standing
    inner join displaced on standing.adjustment_id = displaced.adjustment_id
    inner join rules on standing.rule_id = rules.rule_id
),

ranked as (
    select
        unfired.*,
        row_number() over (
            partition by rule_id, subject_id, firing_slot order by occurred_at, trigger_id
        ) as slot_no
    from unfired
),

counted as (
    select
        ranked.*,
        -- The points of the rule that the account or contact has without this firing.
        coalesce(awarded.points, 0) + sum(ranked.points) over (
            partition by ranked.rule_id, ranked.subject_id
            order by ranked.occurred_at, ranked.trigger_id
            rows between unbounded preceding and current row
        ) - ranked.points as points_before
    from ranked
    left join awarded
        on
            ranked.rule_id = awarded.rule_id
            and ranked.subject_kind = awarded.subject_kind
            and ranked.subject_id = awarded.subject_id
    where ranked.slot_no = 1
),

capped as (
    select
        counted.*,
        cast(
            case
                when cap_points is null then points
                else greatest(0, least(points, cap_points - points_before))
            end as bigint
        ) as points_within_cap
    from counted
)

select
    {{ dbt.hash("rule_id || '|' || rule_version || '|' || subject_id || '|' || firing_slot") }} as adjustment_id,
    case when subject_kind = 'account' then subject_id end as account_id,
    case when subject_kind = 'contact' then subject_id end as contact_id,
    operation,
    points_within_cap as points,
    note,
    'rule ' || rule_id as author,
    occurred_at,
    {{ dbt.dateadd('day', 'expires_after_days', 'occurred_at') }} as expires_at,
    case
        when is_automation then 'automation'
        when signal = 'form_submission' then 'form'
        else 'rule'
    end as source,
    title,
    greatest(known_at, seen_at) as recorded_at,
    cast(null as {{ dbt.type_string() }}) as void_of,
    rule_id,
    rule_version,
    firing_slot,
    nullif(trigger_id, '') as trigger_id
from capped
where points_within_cap > 0 or operation = 'set'

union all

select
    {{ dbt.hash("'void|' || adjustment_id || '|' || rule_version") }} as adjustment_id,
    landed_account_id as account_id,
    landed_contact_id as contact_id,
    'void' as operation,
    cast(0 as bigint) as points,
    note,
    'rule ' || rule_id as author,
    taken_back_at as occurred_at,
    cast(null as timestamp) as expires_at,
    'rule' as source,
    title,
    taken_back_at as recorded_at,
    adjustment_id as void_of,
    rule_id,
    rule_version,
    cast(null as {{ dbt.type_string() }}) as firing_slot,
    cast(null as {{ dbt.type_string() }}) as trigger_id
from taken_back
