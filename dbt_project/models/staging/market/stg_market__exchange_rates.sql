with source as (
    {{ records_as_of(source('raw', 'market__exchange_rates'), ['currency', 'to_currency', 'rate_date']) }}
),

renamed as (
    select
        currency,
        to_currency,
        rate_date,
        rate,
        rate_source,
        updated_at
    from source
)

select * from renamed
