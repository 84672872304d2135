with source as (
    {{ events_as_of(source('raw', 'web__events'), 'event_id', 'occurred_at') }}
),

renamed as (
    select
        event_id,
        occurred_at,
        event_type,
        visitor_id,
        contact_id,
        email,
        url,
        form_name,
        product,
        campaign_id,
        user_agent,
        ip_address,
        _visitor_id_key,
        _contact_id_key,
        _email_key,
        _key_hash
    from source
)

select * from renamed
