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
    coalesce(accounts.adjustment_points, contacts.adjustment_points) as adjustment_points
from ledger
left join {{ ref('scored_accounts') }} as accounts
    on ledger.account_id = accounts.account_id and ledger.contact_id is null
left join {{ ref('scored_contacts') }} as contacts on ledger.contact_id = contacts.contact_id
where ledger.points <> coalesce(accounts.adjustment_points, contacts.adjustment_points, 0)
    and (contacts.contact_id is not null or accounts.state = 'scored')
