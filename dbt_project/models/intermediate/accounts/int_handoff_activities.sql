-- Follow-ups by sales: activities that somebody of sales held, with the account or with a contact of it.
with activities as (
    select activities.*
    from {{ ref('stg_crm__activities') }} as activities
    inner join {{ source('settings', 'handoff_activities') }} as listed on activities.activity_type = listed.activity_type
    where
        not coalesce(activities.is_deleted, false)
        and activities.owner_id is not null
        and activities.occurred_at <= {{ as_of_at() }}
),

of_contacts as (
    select
        contact_id,
        min(account_id) as account_id
    from {{ ref('int_contact_accounts') }}
    where valid_from <= {{ as_of_at() }} and valid_to > {{ as_of_at() }}
    group by contact_id
)

select
    activities.activity_id,
    coalesce(activities.account_id, of_contacts.account_id) as account_id,
    activities.occurred_at,
    cast(activities.occurred_at as date) as occurred_date
from activities
left join of_contacts on activities.contact_id = of_contacts.contact_id
where activities.account_id is not null or of_contacts.account_id is not null
