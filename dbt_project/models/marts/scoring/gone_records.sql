-- Ids that other systems may still have, and what became of them. A record that was merged and deleted is merged.
with merged as (
    select
        'account' as record_kind,
        account_id as record_id,
        surviving_account_id as surviving_id
    from {{ ref('stg_crm__account_merges') }}

    union all

    select
        'contact' as record_kind,
        contact_id as record_id,
        surviving_contact_id as surviving_id
    from {{ ref('stg_crm__contact_merges') }}
),

deleted as (
    select
        'account' as record_kind,
        account_id as record_id
    from {{ ref('stg_crm__account_versions') }}
    where is_deleted and valid_from <= {{ as_of_at() }} and valid_to > {{ as_of_at() }}

    union all

    select
        'contact' as record_kind,
        contact_id as record_id
    from {{ ref('stg_crm__contact_versions') }}
    where is_deleted and valid_from <= {{ as_of_at() }} and valid_to > {{ as_of_at() }}
)

select
    record_kind,
    record_id,
    'merged' as what_happened,
    surviving_id
from merged

union all

select
    deleted.record_kind,
    deleted.record_id,
    'deleted' as what_happened,
    cast(null as varchar) as surviving_id
from deleted
left join merged on deleted.record_kind = merged.record_kind and deleted.record_id = merged.record_id
where merged.record_id is null
