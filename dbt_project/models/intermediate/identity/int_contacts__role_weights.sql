-- How much what a contact does counts for its account, by the function and seniority that its record had at the time. Only contacts
-- who at any time counted for more or less than others, and they for all time.
-- Where none weighs unlike others nothing is even read.
with survivors as (
    select * from {{ ref('stg_crm__contact_survivors') }}
    where exists (select 1 from {{ source('settings', 'role_weights') }})
),

versions as (
    select
        versions.contact_id,
        lower(trim(versions.job_function)) as job_function,
        lower(trim(versions.seniority)) as seniority,
        versions.valid_from,
        versions.valid_to
    from {{ ref('stg_crm__contact_versions') }} as versions
    inner join survivors on versions.contact_id = survivors.contact_id
    where
        survivors.surviving_contact_id = versions.contact_id
        and versions.valid_from <= {{ as_of_at() }}
        and exists (select 1 from {{ source('settings', 'role_weights') }})
),

role_keys as (
    select distinct role_key from {{ source('settings', 'role_weights') }}
),

functions as (
    select * from {{ source('settings', 'role_weights') }}
    where field = 'job_function'
),

seniorities as (
    select * from {{ source('settings', 'role_weights') }}
    where field = 'seniority'
),

weighed as (
    select
        role_keys.role_key,
        versions.contact_id,
        cast(
            {{ integer_divide('coalesce(functions.weight_milli, 1000) * coalesce(seniorities.weight_milli, 1000)', 1000) }}
            as bigint
        ) as weight_milli,
        versions.valid_from,
        versions.valid_to
    from versions
    cross join role_keys
    left join functions
        on role_keys.role_key = functions.role_key and versions.job_function = functions.value
    left join seniorities
        on role_keys.role_key = seniorities.role_key and versions.seniority = seniorities.value
),

unlike_others as (
    select distinct
        role_key,
        contact_id
    from weighed
    where weight_milli <> 1000
)

select weighed.*
from weighed
inner join unlike_others
    on weighed.role_key = unlike_others.role_key and weighed.contact_id = unlike_others.contact_id
