with source as (
    {{ records_as_of(source('raw', 'crm__activities'), ['activity_id']) }}
),

renamed as (
    select
        activity_id,
        activity_type,
        occurred_at,
        account_id,
        contact_id,
        opportunity_id,
        owner_id,
        campaign_id,
        outcome,
        duration_minutes,
        updated_at,
        is_deleted,
        _account_id_key,
        _contact_id_key,
        _key_hash
    from source
)

select * from renamed
