-- To which account a contact belonged, and from when that was known. Before its first known account a contact
-- belongs to that one too, but its touchpoints count only from the moment when the link was known.
with versions as (
    select * from {{ ref('stg_crm__contact_versions') }}
    where valid_from <= {{ as_of_at() }} and not coalesce(is_deleted, false)
),

contact_survivors as (
    select * from {{ ref('stg_crm__contact_survivors') }}
),

account_survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

domains as (
    select * from {{ ref('int_account_domains') }}
),

linked as (
    select
        versions.contact_id,
        versions.version_no,
        versions.valid_from,
        versions.valid_to,
        coalesce(versions.created_at, {{ beginning_of_time() }}) as created_at,
        coalesce(account_survivors.surviving_account_id, domains.account_id) as account_id,
        case
            when account_survivors.surviving_account_id is not null then 'crm_link'
            when domains.account_id is not null then 'email_domain'
        end as link_kind
    from versions
    left join account_survivors on versions.account_id = account_survivors.account_id
    left join domains on lower({{ dbt.split_part('versions.email', "'@'", 2) }}) = domains.domain
),

next_known as (
    select
        linked.*,
        min(case when linked.account_id is not null then linked.version_no end) over (
            partition by linked.contact_id
            order by linked.version_no
            rows between current row and unbounded following
        ) as known_version_no,
        max(case when linked.account_id is not null then linked.version_no end) over (
            partition by linked.contact_id
            order by linked.version_no
            rows between unbounded preceding and 1 preceding
        ) as earlier_version_no
    from linked
),

filled as (
    select
        next_known.contact_id as landed_contact_id,
        contact_survivors.surviving_contact_id as contact_id,
        known.account_id,
        known.link_kind,
        next_known.valid_from,
        next_known.valid_to,
        greatest(known.valid_from, next_known.created_at) as known_at
    from next_known
    inner join linked as known
        on next_known.contact_id = known.contact_id and next_known.known_version_no = known.version_no
    inner join contact_survivors on next_known.contact_id = contact_survivors.contact_id
    -- A link that was taken away is not given back before the next one is made.
    where next_known.known_version_no = next_known.version_no or next_known.earlier_version_no is null
)

select * from filled
