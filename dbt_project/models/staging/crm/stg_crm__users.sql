with source as (
    {{ records_as_of(source('raw', 'crm__users'), ['user_id']) }}
),

renamed as (
    select
        user_id,
        user_name,
        manager,
        team,
        region,
        is_active,
        updated_at
    from source
)

select * from renamed
