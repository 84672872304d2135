with source as (
    select * from {{ source('raw', 'crm__accounts__custom') }}
),

renamed as (
    select
        _file,
        _row,
        field,
        value
    from source
)

select * from renamed
