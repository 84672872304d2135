-- The balance of an account or contact: where the fold of its ledger ends.
with ledger as (
    select
        ledger.*,
        max(entry_no) over (partition by subject_kind, subject_id) as last_entry_no
    from {{ ref('int_ledger') }} as ledger
)

select
    subject_kind,
    case when subject_kind = 'account' then account_id end as account_id,
    contact_id,
    balance_after as points,
    operation_count
from ledger
where entry_no = last_entry_no and operation_count > 0
