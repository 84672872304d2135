{#
    One shape for the touchpoints of all sources. A new source of signals has a part here, a staging model and one of changed rows.

    sources: of web, email, social, activities, campaign_members, nps_answers some or all: the newest row of each key, in the shape of its
    staging model.
    email_spelling: the address without a function over it where it can be: years of rows are searched by that (`touchpoints_naming`).
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
        lower(trim(events.email)) as email_spelling,
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
    touchpoint; values a subquery. The rows are chosen before they get their shape: for years of rows that costs more than to find them.
#}
{% macro touchpoints_naming(sources, kind, values) %}
{%- set in_all = {'contact': 'contact_id', 'touchpoint': '_key_hash'} %}
{%- set in_some = {
    'email': {'web': 'lower(trim(email))', 'email': 'email', 'social': 'email', 'nps_answers': 'email'},
    'visitor': {'web': 'visitor_id'},
    'account': {'social': 'account_id', 'activities': 'account_id', 'nps_answers': 'account_id'},
} %}
{%- set chosen = {} %}
{%- for source, relation in sources.items() %}
{%- set column = in_some[kind].get(source) if kind in in_some else in_all[kind] %}
{%- if column %}
{%- do chosen.update({source: '(select * from ' ~ relation ~ ' where ' ~ column ~ ' in (' ~ values ~ '))'}) %}
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
