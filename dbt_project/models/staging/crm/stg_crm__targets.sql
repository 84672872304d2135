with source as (
    {{ records_as_of(source('raw', 'crm__targets'), ['owner_id', 'period_start', 'period_type']) }}
),

renamed as (
    select
        owner_id,
        period_start,
        period_type,
        target_amount,
        author,
        note,
        updated_at
    from source
)

select * from renamed
