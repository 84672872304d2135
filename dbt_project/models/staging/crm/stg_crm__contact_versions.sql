with source as (
    {{ record_versions(source('raw', 'crm__contacts'), ['contact_id']) }}
),

renamed as (
    select
        contact_id,
        account_id,
        lower(trim(email)) as email,
        contact_name,
        job_title,
        job_function,
        seniority,
        country,
        city,
        birth_year,
        gender,
        has_opted_in,
        is_unsubscribed,
        merged_into_contact_id,
        created_at,
        updated_at,
        is_deleted,
        version_no,
        valid_from,
        valid_to
    from source
)

select * from renamed
