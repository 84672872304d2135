with versions as (
    select * from {{ ref('stg_crm__contact_versions') }}
),

survivors as (
    select * from {{ ref('stg_crm__contact_survivors') }}
),

current_contacts as (
    select
        versions.contact_id,
        versions.contact_name,
        versions.job_title,
        lower(trim(versions.job_function)) as job_function,
        lower(trim(versions.seniority)) as seniority,
        lower(trim(versions.country)) as country,
        coalesce(versions.is_unsubscribed, false) as is_unsubscribed,
        coalesce(versions.created_at, {{ beginning_of_time() }}) as created_at
    from versions
    inner join survivors on versions.contact_id = survivors.contact_id
    where
        survivors.surviving_contact_id = versions.contact_id
        and versions.valid_from <= {{ as_of_at() }}
        and versions.valid_to > {{ as_of_at() }}
        and not coalesce(versions.is_deleted, false)
        and coalesce(versions.created_at, {{ beginning_of_time() }}) <= {{ as_of_at() }}
)

select
    current_contacts.*,
    {{ id_key('contact_id') }} as contact_key
from current_contacts
