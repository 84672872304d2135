{#
    One shape for the touchpoints of all sources. A new source of signals has a part here, a staging model and one of changed rows.

    sources: of web, email, social, activities, campaign_members, nps_answers some or all: the newest row of each key, in the shape of its
    staging model.
    email_spelling: the address as it landed: years of rows are searched by that (`naming_conditions`).
#}
{% macro landed_touchpoints(sources) %}
{%- set parts = [] %}
{%- if sources.web is defined %}
{%- set part %}
    select
        'web' as source,
        events._key_hash as touchpoint_key,
        events.event_id as touchpoint_id,
        events.event_type as signal,
        events.occurred_at,
        events.visitor_id,
        events.contact_id,
        lower(trim(events.email)) as email,
        events.email as email_spelling,
        cast(null as {{ dbt.type_string() }}) as account_id,
        events.campaign_id
    from {{ sources.web }} as events
{%- endset %}
{%- do parts.append(part) %}
{%- endif %}
{%- if sources.email is defined %}
{%- set part %}
    select
        'email' as source,
        _key_hash as touchpoint_key,
        event_id as touchpoint_id,
        'email_' || event_type as signal,
        occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        lower(trim(email)) as email,
        email as email_spelling,
        cast(null as {{ dbt.type_string() }}) as account_id,
        campaign_id
    from {{ sources.email }} as landed_rows
{%- endset %}
{%- do parts.append(part) %}
{%- endif %}
{%- if sources.social is defined %}
{%- set part %}
    select
        'social' as source,
        _key_hash as touchpoint_key,
        interaction_id as touchpoint_id,
        'social_' || interaction_type as signal,
        occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        lower(trim(email)) as email,
        email as email_spelling,
        account_id,
        cast(null as {{ dbt.type_string() }}) as campaign_id
    from {{ sources.social }} as landed_rows
{%- endset %}
{%- do parts.append(part) %}
{%- endif %}
{%- if sources.activities is defined %}
{%- set part %}
    select
        'activity' as source,
        _key_hash as touchpoint_key,
        activity_id as touchpoint_id,
        activity_type as signal,
        occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        cast(null as {{ dbt.type_string() }}) as email,
        cast(null as {{ dbt.type_string() }}) as email_spelling,
        account_id,
        campaign_id
    from {{ sources.activities }} as landed_rows
    where occurred_at <= {{ as_of_at() }} and not coalesce(is_deleted, false)
{%- endset %}
{%- do parts.append(part) %}
{%- endif %}
{%- if sources.campaign_members is defined %}
{%- set part %}
    select
        'campaign' as source,
        _key_hash as touchpoint_key,
        campaign_id || '/' || contact_id as touchpoint_id,
        'campaign_' || member_status as signal,
        responded_at as occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        cast(null as {{ dbt.type_string() }}) as email,
        cast(null as {{ dbt.type_string() }}) as email_spelling,
        cast(null as {{ dbt.type_string() }}) as account_id,
        campaign_id
    from {{ sources.campaign_members }} as landed_rows
    where responded_at <= {{ as_of_at() }} and member_status <> 'invited'
{%- endset %}
{%- do parts.append(part) %}
{%- endif %}
{%- if sources.nps_answers is defined %}
{%- set part %}
    select
        'survey' as source,
        _key_hash as touchpoint_key,
        answer_id as touchpoint_id,
        'nps_answered' as signal,
        answered_at as occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        lower(trim(email)) as email,
        email as email_spelling,
        account_id,
        cast(null as {{ dbt.type_string() }}) as campaign_id
    from {{ sources.nps_answers }} as landed_rows
{%- endset %}
{%- do parts.append(part) %}
{%- endif %}
with landed as (
{{ parts | join('\n\n    union all\n\n') }}
)

select * from landed
{% endmacro %}

{# Of landed rows of a source of touchpoints, which `landed_touchpoints` knows by this name, those that count as of now. #}
{% macro touchpoint_rows_as_of(source, relation) %}
{%- if source in ('web', 'email') %}
    {{ events_as_of(relation, 'event_id', 'occurred_at') }}
{%- elif source == 'social' %}
    {{ events_as_of(relation, 'interaction_id', 'occurred_at') }}
{%- elif source == 'nps_answers' %}
    {{ events_as_of(relation, 'answer_id', 'answered_at') }}
{%- else %}
    {{ records_as_of(relation, {'activities': ['activity_id'], 'campaign_members': ['campaign_id', 'contact_id']}[source]) }}
{%- endif %}
{% endmacro %}

{#
    By which columns a source of touchpoints is searched for rows that name one of some values, and for some touchpoints: conditions for
    `landed_rows`. The largest sources are searched by the numbers of the values: two values may have one number, then more is found.

    values: a relation of the query with the columns kind (contact, email, visitor or account), spelling and spelling_key.
    touchpoints: one with the column touchpoint_key.
#}
{% macro naming_conditions(source, values, touchpoints) %}
{%- set searched = {
    'web': {'contact': '_contact_id_key', 'email': '_email_key', 'visitor': '_visitor_id_key'},
    'email': {'contact': '_contact_id_key', 'email': '_email_key'},
    'social': {'contact': 'contact_id', 'email': 'email', 'account': 'account_id'},
    'activities': {'contact': '_contact_id_key', 'account': '_account_id_key'},
    'campaign_members': {'contact': 'contact_id'},
    'nps_answers': {'contact': 'contact_id', 'email': 'email', 'account': 'account_id'},
} %}
{%- set conditions = ['_key_hash in (select touchpoint_key from ' ~ touchpoints ~ ')'] %}
{%- for kind, column in searched[source].items() %}
{%- set value = 'spelling_key' if column.startswith('_') else 'spelling' %}
{%- do conditions.append(column ~ ' in (select ' ~ value ~ ' from ' ~ values ~ " where kind = '" ~ kind ~ "')") %}
{%- endfor %}
{{ return(conditions) }}
{% endmacro %}

{# What makes one count of int_touchpoints__daily. #}
{% macro columns_of_a_day() %}
    {{ return(['account_key', 'contact_key', 'signal', 'event_date', 'known_date']) }}
{% endmacro %}

{# For whom an email event was. #}
{% macro bot_recipient() -%}
    coalesce(lower(trim(email)), contact_id, '')
{%- endmacro %}

{# Email events with what bots are recognised by. A select without its conditions. #}
{% macro bot_events(emails) %}
    select
        _key_hash as touchpoint_key,
        {{ row_key(['message_id']) }} as message_key,
        {{ row_key(['ip_address', dbt.date_trunc('minute', 'occurred_at')]) }} as minute_key,
        {{ dbt.date_trunc('minute', 'occurred_at') }} as minute_at,
        message_id,
        {{ bot_recipient() }} as recipient,
        event_type,
        occurred_at,
        coalesce(link_url, event_type) as link,
        event_type = 'unsubscribed' or coalesce(lower(link_url) like '%unsubscribe%', false) as is_unsubscription,
        user_agent,
        ip_address
    from {{ emails }}
{% endmacro %}
