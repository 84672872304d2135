with source as (
    {{ record_versions(source('raw', 'crm__accounts'), ['account_id']) }}
),

renamed as (
    select
        account_id,
        account_name,
        domain,
        industry,
        employees,
        annual_revenue,
        country,
        region,
        city,
        founded_year,
        account_type,
        lifecycle_stage,
        lead_source,
        owner_id,
        parent_account_id,
        is_customer,
        is_suppressed,
        is_disqualified,
        merged_into_account_id,
        created_at,
        updated_at,
        is_deleted,
        version_no,
        version_at,
        valid_from,
        valid_to,
        _file,
        _row
    from source
)

select * from renamed
