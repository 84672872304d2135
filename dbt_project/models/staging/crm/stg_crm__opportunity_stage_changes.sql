with source as (
    {{ records_as_of(source('raw', 'crm__opportunity_stage_history'), ['opportunity_id', 'changed_at', 'stage'], has_updated_at=false) }}
),

renamed as (
    select
        opportunity_id,
        changed_at,
        stage,
        amount,
        expected_close_date,
        owner_id,
        forecast_category
    from source
)

select * from renamed
