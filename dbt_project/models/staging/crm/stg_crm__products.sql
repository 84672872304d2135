with source as (
    {{ records_as_of(source('raw', 'crm__products'), ['product']) }}
),

renamed as (
    select
        product,
        product_family,
        list_price,
        updated_at
    from source
)

select * from renamed
