-- Which account says that a domain is its own: the record that counts, after merges, at the as-of moment.
with versions as (
    select * from {{ ref('stg_crm__account_versions') }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

claims as (
    select distinct
        survivors.surviving_account_id as account_id,
        lower(trim(versions.domain)) as domain
    from versions
    inner join survivors on versions.account_id = survivors.account_id
    where
        versions.domain is not null
        and trim(versions.domain) <> ''
        and not coalesce(versions.is_deleted, false)
        and versions.valid_from <= {{ as_of_at() }}
        and versions.valid_to > {{ as_of_at() }}
)

select * from claims
