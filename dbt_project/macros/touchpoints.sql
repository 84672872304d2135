{#
    One shape for the touchpoints of all sources. A new source of signals has a part here, a staging model and one of changed rows.

    sources: of web, email, social, activities, campaign_members, nps_answers some or all: the newest row of each key, in the shape of its
    staging model.
    email_spelling: the address as it landed: years of rows are searched by that (`touchpoints_naming`).
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

{#
    Touchpoints as they landed that name one of some values: sources as above, all of them; kind is contact, email, visitor, account or
    touchpoint. The rows are chosen before they get their shape: for years of rows that costs more than to find them.

    values: a relation of the query with the columns kind and spelling, and spelling_key, the number of the spelling by which the largest
    sources are searched; of touchpoints their touchpoint_key. Two spellings may have one number: then more is found than was asked for.
#}
{% macro touchpoints_naming(sources, kind, values) %}
{%- set numbered = {
    'contact': {'web': '_contact_id_key', 'email': '_contact_id_key', 'activities': '_contact_id_key'},
    'email': {'web': '_email_key', 'email': '_email_key'},
    'visitor': {'web': '_visitor_id_key'},
    'account': {'activities': '_account_id_key'},
    'touchpoint': {},
} %}
{%- set as_text = {
    'contact': {'social': 'contact_id', 'campaign_members': 'contact_id', 'nps_answers': 'contact_id'},
    'email': {'social': 'email', 'nps_answers': 'email'},
    'visitor': {},
    'account': {'social': 'account_id', 'nps_answers': 'account_id'},
    'touchpoint': {},
} %}
{%- set chosen = {} %}
{%- for source, relation in sources.items() %}
{%- if kind == 'touchpoint' %}
{%- set condition = '_key_hash in (select touchpoint_key from ' ~ values ~ ')' %}
{%- elif source in numbered[kind] %}
{%- set condition = numbered[kind][source] ~ ' in (select spelling_key from ' ~ values ~ " where kind = '" ~ kind ~ "')" %}
{%- elif source in as_text[kind] %}
{%- set condition = as_text[kind][source] ~ ' in (select spelling from ' ~ values ~ " where kind = '" ~ kind ~ "')" %}
{%- else %}
{%- set condition = none %}
{%- endif %}
{%- if condition %}
{%- do chosen.update({source: '(select * from ' ~ relation ~ ' where ' ~ condition ~ ')'}) %}
{%- endif %}
{%- endfor %}
{{ landed_touchpoints(chosen) }}
{% endmacro %}

{# What makes one count of int_touchpoints__daily. #}
{% macro columns_of_a_day() %}
    {{ return(['account_key', 'contact_key', 'signal', 'event_date', 'known_date']) }}
{% endmacro %}

{# Email events with what bots are recognised by. A select without its conditions. #}
{% macro bot_events(emails) %}
    select
        _key_hash as touchpoint_key,
        {{ row_key(['message_id']) }} as message_key,
        {{ row_key(['ip_address', dbt.date_trunc('minute', 'occurred_at')]) }} as minute_key,
        {{ dbt.date_trunc('minute', 'occurred_at') }} as minute_at,
        message_id,
        coalesce(lower(trim(email)), contact_id, '') as recipient,
        event_type,
        occurred_at,
        coalesce(link_url, event_type) as link,
        event_type = 'unsubscribed' or coalesce(lower(link_url) like '%unsubscribe%', false) as is_unsubscription,
        user_agent,
        ip_address
    from {{ emails }}
{% endmacro %}
