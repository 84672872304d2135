-- What the rules do at this refresh and did not do before: firings, and the taking back of firings of an earlier version of a rule
-- that a retroactive change replaces. They are landed before the marts are published, so that the next refresh finds them and
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

awarded as (
    select
        rule_id,
        subject_kind,
        subject_id,
        sum(points) as points
    from standing
    group by rule_id, subject_kind, subject_id
),

candidates as (
    select
        rules.*,
        coalesce(matches.contact_id, matches.account_id) as subject_id,
        matches.trigger_id,
        matches.signal,
        matches.occurred_at,
        matches.known_at,
        case
            when rules.frequency = 'every_event' then matches.trigger_id
            when rules.frequency = 'once' then 'once'
            else
                cast(rules.period_days as {{ dbt.type_string() }}) || ' days, no. ' || cast(
                    {{ integer_divide(days_between("cast('2000-01-03' as date)", 'matches.occurred_at'), 'rules.period_days') }}
                    as {{ dbt.type_string() }}
                )
        end as firing_slot
    from {{ ref('int_rules__matches') }} as matches
    inner join rules on matches.rule_id = rules.rule_id
    where
        case when rules.is_retroactive then matches.occurred_at else matches.known_at end >= rules.effective_at
        and matches.occurred_at >= rules.active_from_at
        and matches.occurred_at < rules.active_to_at
),

unfired as (
    select candidates.*
    from candidates
    where not exists (
        select 1
        from standing
        where
            candidates.rule_id = standing.rule_id
            and candidates.subject_kind = standing.subject_kind
            and candidates.firing_slot = standing.firing_slot
            -- An event fires once, also when its account was merged and parted since.
            and (candidates.subject_id = standing.subject_id or candidates.frequency = 'every_event')
    )
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
    'the rule was changed with effect on its past firings' as note,
    'rule ' || rule_id as author,
    seen_at as occurred_at,
    cast(null as timestamp) as expires_at,
    'rule' as source,
    title,
    seen_at as recorded_at,
    adjustment_id as void_of,
    rule_id,
    rule_version,
    cast(null as {{ dbt.type_string() }}) as firing_slot,
    cast(null as {{ dbt.type_string() }}) as trigger_id
from replaced
