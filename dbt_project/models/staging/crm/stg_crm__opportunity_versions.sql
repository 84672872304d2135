with source as (
    {{ record_versions(source('raw', 'crm__opportunities'), ['opportunity_id']) }}
),

renamed as (
    select
        opportunity_id,
        opportunity_name,
        account_id,
        contact_id,
        owner_id,
        product,
        stage,
        status,
        amount,
        currency,
        opened_at,
        expected_close_date,
        closed_at,
        lead_source,
        campaign_id,
        loss_reason,
        deal_type,
        forecast_category,
        merged_into_opportunity_id,
        updated_at,
        is_deleted,
        version_no,
        version_at,
        valid_from,
        valid_to
    from source
)

select * from renamed
