with source as (
    {{ events_as_of(source('raw', 'email__events'), 'event_id', 'occurred_at') }}
),

renamed as (
    select
        event_id,
        occurred_at,
        event_type,
        message_id,
        contact_id,
        email,
        campaign_id,
        link_url,
        user_agent,
        ip_address,
        _message_id_key,
        _contact_id_key,
        _email_key,
        _key_hash
    from source
)

select * from renamed
