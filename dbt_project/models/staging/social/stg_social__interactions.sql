with source as (
    {{ events_as_of(source('raw', 'social__interactions'), 'interaction_id', 'occurred_at') }}
),

renamed as (
    select
        interaction_id,
        occurred_at,
        network,
        interaction_type,
        contact_id,
        email,
        account_id,
        _key_hash
    from source
)

select * from renamed
