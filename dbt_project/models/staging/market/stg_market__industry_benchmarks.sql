with source as (
    {{ records_as_of(source('raw', 'market__industry_benchmarks'), ['industry', 'year'], has_updated_at=false) }}
),

renamed as (
    select
        industry,
        year,
        published_at,
        market_growth_pct,
        digital_spend_pct
    from source
)

select * from renamed
