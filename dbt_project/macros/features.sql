{#
    The one definition of a feature. Training and scoring call these two macros with different spines.

    A spine has: spine_id (what is described), account_id, contact_id (null unless people are described), as_of_at, as_of_date.
    Result of both: spine_id, criterion_key, value_micro (null: not a number or missing), value_text (null: missing).
#}

{# What is known about the account at the spine's moment. Missing values have a row of their own. #}
{% macro explicit_features(spine) %}
with spine as (
    select * from {{ spine }}
),

criteria as (
    select
        criterion_key,
        attribute,
        value_type
    from {{ source('settings', 'criteria') }}
    where kind = 'explicit'
),

attributes as (
    select * from {{ ref('int_account_attributes') }}
)

select
    spine.spine_id,
    criteria.criterion_key,
    case when criteria.value_type = 'number' then attributes.value_micro end as value_micro,
    case
        when criteria.value_type = 'category' then attributes.value_text
        when attributes.value_micro is not null then attributes.value_text
    end as value_text
from spine
cross join criteria
left join attributes
    on
        spine.account_id = attributes.account_id
        and criteria.attribute = attributes.attribute
        and spine.as_of_at >= attributes.valid_from
        and spine.as_of_at < attributes.valid_to
{% endmacro %}

{#
    What the account's people did up to the spine's moment. per_contact: only what the spine's contact did.

    Where a criterion rolls up, people of accounts that were below the spine's one at that moment count, too, as if they were its own: a
    person at two of them is one person. A person's role at the moment weighs what it did, after the caps. Of a contact itself neither holds.

    Days before the moment come from the daily counts, the day itself from the single touchpoints. Per person and day a criterion
    counts no more than its daily cap; each day's count decays with its age in whole days; per person no more than the cap per
    person counts, and the sum stays between the criterion's floor and ceiling. Zero is a value; a criterion is missing where none of its signals had ever been recorded by then.
#}
{% macro implicit_features(spine, per_contact=false) %}
{%- set daily = ref('int_touchpoints__daily') %}
{%- set daily_moved = ref('int_touchpoints__daily_moved') %}
{%- set touchpoints = ref('int_touchpoints') %}
{%- set moved = ref('int_touchpoints__moved') %}
{%- set recorded = ref('int_signals') %}
{%- if not per_contact %}
{%- set descendants = ref('int_account_descendants') %}
{%- set role_weights = ref('int_contacts__role_weights') %}
{%- endif %}
with spine as (
    select * from {{ spine }}
    {%- if not is_full_build() %}
    where spine_id in (
        select spine_id from ({{ _changed_spines(spine, per_contact, moved, recorded, daily, descendants, role_weights) }}) as changed_spines
    )
    {%- endif %}
),

signals as (
    select
        criteria.criterion_key,
        criteria.measure,
        criteria.decay_key,
        criteria.window_days,
        criteria.cap_per_day_milli,
        criteria.cap_per_person_micro,
        criteria.floor_micro,
        criteria.ceiling_micro,
        criteria.role_key,
        criteria.is_rolled_up,
        criterion_signals.signal,
        criterion_signals.multiplier_milli,
        first_seen.first_occurred_at
    from {{ source('settings', 'criteria') }} as criteria
    inner join {{ source('settings', 'criterion_signals') }} as criterion_signals
        on criteria.criterion_key = criterion_signals.criterion_key
    left join {{ recorded }} as first_seen on criterion_signals.signal = first_seen.signal
    where criteria.kind = 'implicit'
),

criteria as (
    select
        criterion_key,
        max(measure) as measure,
        max(decay_key) as decay_key,
        max(cap_per_person_micro) as cap_per_person_micro,
        max(floor_micro) as floor_micro,
        max(ceiling_micro) as ceiling_micro,
        max(role_key) as role_key,
        min(first_occurred_at) as first_occurred_at
    from signals
    group by criterion_key
),

decay as (
    select * from {{ source('settings', 'decay') }}
),

-- Whose touchpoints are looked at for a spine: the account's own, and those of the accounts below it.
looked_at as (
    select
        spine_id,
        account_id,
        {{ id_key('account_id') }} as account_key,
        {%- if per_contact %}
        contact_id,
        {{ id_key('contact_id') }} as contact_key,
        {%- endif %}
        as_of_at,
        as_of_date,
        false as is_below
    from spine
    {%- if not per_contact %}

    union all

    select
        spine.spine_id,
        descendants.below_account_id as account_id,
        {{ id_key('descendants.below_account_id') }} as account_key,
        spine.as_of_at,
        spine.as_of_date,
        true as is_below
    from spine
    inner join {{ descendants }} as descendants
        on
            spine.account_id = descendants.account_id
            and spine.as_of_at >= descendants.valid_from
            and spine.as_of_at < descendants.valid_to
    {%- endif %}
),

{%- if not is_full_build() %}

looked_at_others as (
    select * from looked_at
    where account_key not in (select account_key from {{ moved }} where account_key is not null)
),
{%- endif %}

seen as (
    {#- Counts of accounts in which something moved were found already; years of counts are searched for the others alone, if any. #}
    {%- set parts = [(daily, 'looked_at')] if is_full_build() else [(daily_moved, 'looked_at'), (daily, 'looked_at_others as looked_at')] %}
    {%- for counts, subjects in parts %}
    select
        looked_at.spine_id,
        looked_at.as_of_at,
        looked_at.as_of_date,
        looked_at.is_below,
        daily.contact_key,
        daily.signal,
        daily.event_date,
        daily.touchpoint_count
    from {{ subjects }}
    inner join {{ counts }} as daily
        on
            looked_at.account_key = daily.account_key
            {%- if per_contact %}
            and looked_at.contact_key = daily.contact_key
            {%- endif %}
            and daily.known_date < looked_at.as_of_date

    union all
    {% endfor %}
    select
        looked_at.spine_id,
        looked_at.as_of_at,
        looked_at.as_of_date,
        looked_at.is_below,
        {{ id_key('touchpoints.contact_id') }} as contact_key,
        touchpoints.signal,
        touchpoints.event_date,
        1 as touchpoint_count
    from looked_at
    inner join {{ touchpoints }} as touchpoints
        on
            looked_at.account_id = touchpoints.account_id
            {%- if per_contact %}
            and looked_at.contact_id = touchpoints.contact_id
            {%- endif %}
            and looked_at.as_of_date = touchpoints.known_date
            and touchpoints.known_at <= looked_at.as_of_at
),

-- Counts of one criterion per person and day, capped.
person_days as (
    select
        seen.spine_id,
        signals.criterion_key,
        seen.contact_key,
        max(seen.as_of_at) as as_of_at,
        {{ days_between('seen.event_date', 'seen.as_of_date') }} as age_days,
        least(
            cast(sum(seen.touchpoint_count * signals.multiplier_milli) as bigint), max(signals.cap_per_day_milli)
        ) as count_milli
    from seen
    inner join signals on seen.signal = signals.signal
    where
        {{ days_between('seen.event_date', 'seen.as_of_date') }} <= signals.window_days
        and (not seen.is_below or signals.is_rolled_up)
    group by
        seen.spine_id,
        signals.criterion_key,
        seen.contact_key,
        {{ days_between('seen.event_date', 'seen.as_of_date') }}
),

-- An age that the decay table does not reach has nothing left: zero, and not null, of which least() would make the cap.
persons as (
    select
        person_days.spine_id,
        person_days.criterion_key,
        person_days.contact_key,
        max(person_days.as_of_at) as as_of_at,
        least(
            cast(
                sum({{ integer_divide('person_days.count_milli * coalesce(decay.factor_nano, 0)', 1000000) }}) as bigint
            ),
            max(criteria.cap_per_person_micro)
        ) as value_micro,
        min(person_days.age_days) as least_age_days
    from person_days
    inner join criteria on person_days.criterion_key = criteria.criterion_key
    left join decay
        on criteria.decay_key = decay.decay_key and person_days.age_days = decay.age_days
    group by person_days.spine_id, person_days.criterion_key, person_days.contact_key
),

{%- if not per_contact %}

weights as (
    select
        criteria.criterion_key,
        {{ id_key('role_weights.contact_id') }} as contact_key,
        role_weights.weight_milli,
        role_weights.valid_from,
        role_weights.valid_to
    from {{ role_weights }} as role_weights
    inner join criteria on role_weights.role_key = criteria.role_key
),
{%- endif %}

-- Who weighs unlike others has a weight for every moment, and one alone: the join doubles nobody, the condition loses nobody.
measured as (
    select
        persons.spine_id,
        persons.criterion_key,
        {%- if per_contact %}
        cast(sum(persons.value_micro) as bigint) as value_micro,
        {%- else %}
        cast(
            sum(
                case
                    when weights.weight_milli is null then persons.value_micro
                    else {{ weighed('persons.value_micro', 'weights.weight_milli') }}
                end
            ) as bigint
        ) as value_micro,
        {%- endif %}
        min(persons.least_age_days) as least_age_days
    from persons
    {%- if not per_contact %}
    left join weights on persons.contact_key = weights.contact_key and persons.criterion_key = weights.criterion_key
    where
        weights.contact_key is null
        or (persons.as_of_at >= weights.valid_from and persons.as_of_at < weights.valid_to)
    {%- endif %}
    group by persons.spine_id, persons.criterion_key
),

completed as (
    select
        spine.spine_id,
        criteria.criterion_key,
        case
            when criteria.measure = 'days_since_last' then cast(measured.least_age_days as bigint) * 1000000
            when measured.value_micro is not null or criteria.first_occurred_at <= spine.as_of_at
                then least(greatest(coalesce(measured.value_micro, 0), criteria.floor_micro), criteria.ceiling_micro)
        end as value_micro
    from spine
    cross join criteria
    left join measured
        on spine.spine_id = measured.spine_id and criteria.criterion_key = measured.criterion_key
)

select
    spine_id,
    criterion_key,
    value_micro,
    {{ number_text('value_micro') }} as value_text
from completed
{% endmacro %}

{#
    Subjects whose implicit features may differ from the last build's: they are new, or belong to another account or another day; a
    touchpoint that they can see, also of an account below, is new or no more; an account is below or is so no more; the role of a person
    is another one; a signal has been recorded since another moment; a definition is new.

    Decay counts whole days. So a subject that is seen as of now, and at the last build as of then, has other features only on another
    day, unless something moved; one that is seen as of a moment of its own keeps that moment.
#}
{% macro _changed_spines(spine, per_contact, moved, recorded, daily, descendants, role_weights) %}
    select spine_id
    from {{ differences(spine) }}

    union

    select spines.spine_id
    from {{ spine }} as spines
    inner join {{ moved }} as moved
        on
            spines.account_id = moved.account_id
            {%- if per_contact %}
            and spines.contact_id = moved.contact_id
            {%- endif %}
            and spines.as_of_at >= moved.known_at
    {%- if not per_contact %}

    union

    select spines.spine_id
    from {{ spine }} as spines
    inner join {{ descendants }} as descendants
        on
            spines.account_id = descendants.account_id
            and spines.as_of_at >= descendants.valid_from
            and spines.as_of_at < descendants.valid_to
    inner join {{ moved }} as moved
        on
            descendants.below_account_id = moved.account_id
            and spines.as_of_at >= moved.known_at

    union

    select spines.spine_id
    from {{ spine }} as spines
    inner join (
        {{ changed_since_last_build(descendants, 'account_id, valid_from, valid_to') }}
    ) as relinked
        on
            spines.account_id = relinked.account_id
            and spines.as_of_at >= relinked.valid_from
            and spines.as_of_at < relinked.valid_to

    union

    select spines.spine_id
    from {{ spine }} as spines
    inner join (
        select daily.account_key
        from {{ daily }} as daily
        inner join ({{ _contacts_of_other_weight(role_weights) }}) as contacts on daily.contact_key = {{ id_key('contacts.contact_id') }}

        union

        select {{ id_key('descendants.account_id') }} as account_key
        from {{ daily }} as daily
        inner join ({{ _contacts_of_other_weight(role_weights) }}) as contacts on daily.contact_key = {{ id_key('contacts.contact_id') }}
        inner join {{ descendants }} as descendants on daily.account_key = {{ id_key('descendants.below_account_id') }}
    ) as weighed_anew on {{ id_key('spines.account_id') }} = weighed_anew.account_key
    {%- endif %}

    union

    select spines.spine_id
    from {{ spine }} as spines
    inner join (
        select
            coalesce(min(case when _side = 1 then first_occurred_at end), {{ end_of_time() }}) as since_at,
            coalesce(min(case when _side = -1 then first_occurred_at end), {{ end_of_time() }}) as before_at
        from {{ differences(recorded) }}
        group by signal
    ) as beginnings
        on
            spines.as_of_at >= least(beginnings.since_at, beginnings.before_at)
            and spines.as_of_at < greatest(beginnings.since_at, beginnings.before_at)

    union

    select spines.spine_id
    from {{ spine }} as spines
    where exists (select 1 from {{ source('increment', 'plan') }} where are_definitions_new)
{% endmacro %}

{% macro _contacts_of_other_weight(role_weights) -%}
    {{ changed_since_last_build(role_weights, 'contact_id') }}
{%- endmacro %}

{# A value times a weight in thousandths, cut off. In two parts, so that the largest of both stay within 64 bits. #}
{% macro weighed(value, weight_milli) -%}
    {%- set thousands = integer_divide(value, 1000) -%}
    {{ thousands }} * {{ weight_milli }}
    + {{ integer_divide('(' ~ value ~ ' - ' ~ thousands ~ ' * 1000) * ' ~ weight_milli, 1000) }}
{%- endmacro %}

{#
    A number in millionths as text: whole numbers without decimals, others cut off after two, so that a value just below the
    edge of a band never looks as if it were in the next one.
#}
{% macro number_text(micro) -%}
    case
        when {{ micro }} is null then null
        when {{ integer_divide(micro, 1000000) }} * 1000000 = {{ micro }}
            then cast({{ integer_divide(micro, 1000000) }} as {{ dbt.type_string() }})
        else
            cast(
                cast(
                    cast({{ integer_divide(micro, 10000) }} as decimal(20, 0)) * cast(0.01 as decimal(3, 2))
                    as decimal(20, 2)
                ) as {{ dbt.type_string() }}
            )
    end
{%- endmacro %}
