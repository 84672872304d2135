-- One contact per address: where several share one, the oldest record.
with versions as (
    select * from {{ ref('stg_crm__contact_versions') }}
    where valid_from <= {{ as_of_at() }} and not coalesce(is_deleted, false) and email is not null
),

ranked as (
    select
        email,
        contact_id,
        row_number() over (
            partition by email
            order by coalesce(created_at, {{ beginning_of_time() }}), contact_id, version_no
        ) as oldest_first
    from versions
)

select
    email,
    contact_id
from ranked
where oldest_first = 1
