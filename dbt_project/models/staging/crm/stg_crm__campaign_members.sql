with source as (
    {{ records_as_of(source('raw', 'crm__campaign_members'), ['campaign_id', 'contact_id']) }}
),

renamed as (
    select
        campaign_id,
        contact_id,
        member_status,
        responded_at,
        updated_at,
        _key_hash
    from source
)

select * from renamed
