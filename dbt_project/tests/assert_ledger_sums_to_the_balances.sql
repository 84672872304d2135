-- Every point of a balance is found in the ledger, for accounts and for contacts.
with ledger as (
    select
        account_id,
        contact_id,
        sum(points_applied) as points
    from {{ ref('score_ledger') }}
    group by account_id, contact_id
)

select
    ledger.account_id,
    ledger.contact_id,
    ledger.points,
    accounts.adjustment_points
from ledger
inner join {{ ref('scored_accounts') }} as accounts on ledger.account_id = accounts.account_id
where
    ledger.contact_id is null
    and accounts.state = 'scored'
    and ledger.points <> coalesce(accounts.adjustment_points, 0)

union all

select
    ledger.account_id,
    ledger.contact_id,
    ledger.points,
    contacts.adjustment_points
from ledger
inner join {{ ref('scored_contacts') }} as contacts on ledger.contact_id = contacts.contact_id
where ledger.points <> coalesce(contacts.adjustment_points, 0)
