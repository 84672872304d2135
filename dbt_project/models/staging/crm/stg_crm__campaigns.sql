with source as (
    {{ records_as_of(source('raw', 'crm__campaigns'), ['campaign_id']) }}
),

renamed as (
    select
        campaign_id,
        campaign_name,
        campaign_type,
        started_on,
        ended_on,
        cost,
        updated_at
    from source
)

select * from renamed
