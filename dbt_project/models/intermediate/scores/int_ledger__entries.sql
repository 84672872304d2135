-- Operations that were landed, and those that rules make at this refresh; merged accounts and contacts resolved. What expired or
-- was taken back is still here, with the reason why it no longer counts.
with landed as (
    select
        adjustments.adjustment_id as ledger_id,
        case when adjustments.contact_id is null then 'account' else 'contact' end as subject_kind,
        coalesce(accounts.surviving_account_id, adjustments.account_id) as account_id,
        coalesce(contacts.surviving_contact_id, adjustments.contact_id) as contact_id,
        adjustments.operation,
        adjustments.points,
        coalesce(adjustments.source, 'import') as source,
        adjustments.title,
        adjustments.note,
        adjustments.author,
        adjustments.occurred_at,
        coalesce(adjustments.recorded_at, adjustments.occurred_at) as recorded_at,
        adjustments.expires_at,
        adjustments.void_of,
        adjustments.rule_id,
        adjustments.rule_version,
        adjustments.firing_slot,
        adjustments.trigger_id
    from {{ ref('stg_scoring__adjustments') }} as adjustments
    left join {{ ref('stg_crm__account_survivors') }} as accounts on adjustments.account_id = accounts.account_id
    left join {{ ref('stg_crm__contact_survivors') }} as contacts on adjustments.contact_id = contacts.contact_id
),

entries as (
    select * from landed

    union all

    select
        adjustment_id as ledger_id,
        case when contact_id is null then 'account' else 'contact' end as subject_kind,
        account_id,
        contact_id,
        operation,
        points,
        source,
        title,
        note,
        author,
        occurred_at,
        recorded_at,
        expires_at,
        void_of,
        rule_id,
        rule_version,
        firing_slot,
        trigger_id
    from {{ ref('int_rules__due') }}
),

-- The first that takes an operation back is the one that counts; taking back cannot itself be taken back.
voids as (
    select
        void_of,
        ledger_id,
        row_number() over (partition by void_of order by occurred_at, recorded_at, ledger_id) as void_no
    from entries
    where operation = 'void'
)

select
    entries.*,
    coalesce(entries.contact_id, entries.account_id) as subject_id,
    case when entries.operation <> 'void' then voids.ledger_id end as voided_by,
    case
        when entries.operation = 'void' then 'void'
        when voids.ledger_id is not null then 'voided'
        when coalesce(entries.expires_at, {{ end_of_time() }}) <= {{ as_of_at() }} then 'expired'
        else 'counts'
    end as entry_status
from entries
left join voids on entries.ledger_id = voids.void_of and voids.void_no = 1
