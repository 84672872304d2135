with landed as (
    select
        'web' as source,
        events._key_hash as touchpoint_key,
        events.event_id as touchpoint_id,
        events.event_type as signal,
        events.occurred_at,
        events.visitor_id,
        events.contact_id,
        events.email,
        cast(null as {{ dbt.type_string() }}) as account_id,
        events.campaign_id
    from {{ ref('stg_web__events') }} as events

    union all

    select
        'email' as source,
        _key_hash as touchpoint_key,
        event_id as touchpoint_id,
        'email_' || event_type as signal,
        occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        lower(trim(email)) as email,
        cast(null as {{ dbt.type_string() }}) as account_id,
        campaign_id
    from {{ ref('stg_email__events') }}

    union all

    select
        'social' as source,
        _key_hash as touchpoint_key,
        interaction_id as touchpoint_id,
        'social_' || interaction_type as signal,
        occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        lower(trim(email)) as email,
        account_id,
        cast(null as {{ dbt.type_string() }}) as campaign_id
    from {{ ref('stg_social__interactions') }}

    union all

    select
        'activity' as source,
        _key_hash as touchpoint_key,
        activity_id as touchpoint_id,
        activity_type as signal,
        occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        cast(null as {{ dbt.type_string() }}) as email,
        account_id,
        campaign_id
    from {{ ref('stg_crm__activities') }}
    where occurred_at <= {{ as_of_at() }} and not coalesce(is_deleted, false)

    union all

    select
        'campaign' as source,
        _key_hash as touchpoint_key,
        campaign_id || '/' || contact_id as touchpoint_id,
        'campaign_' || member_status as signal,
        responded_at as occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        cast(null as {{ dbt.type_string() }}) as email,
        cast(null as {{ dbt.type_string() }}) as account_id,
        campaign_id
    from {{ ref('stg_crm__campaign_members') }}
    where responded_at <= {{ as_of_at() }} and member_status <> 'invited'

    union all

    select
        'survey' as source,
        _key_hash as touchpoint_key,
        answer_id as touchpoint_id,
        'nps_answered' as signal,
        answered_at as occurred_at,
        cast(null as {{ dbt.type_string() }}) as visitor_id,
        contact_id,
        lower(trim(email)) as email,
        account_id,
        cast(null as {{ dbt.type_string() }}) as campaign_id
    from {{ ref('stg_survey__nps_answers') }}
)

select * from landed
