-- Who a web visitor was, and from when that was known. A visitor becomes a contact when one of its events carries a known
-- contact or address; earlier events belong to the first contact, later ones to the contact seen last.
with events as (
    select * from {{ ref('int_visitor_sightings') }}
),

contacts as (
    select contact_id from {{ ref('stg_crm__contact_survivors') }}
),

emails as (
    select * from {{ ref('int_contact_emails') }}
),

identified as (
    select
        events.visitor_id,
        events.occurred_at,
        max(coalesce(contacts.contact_id, emails.contact_id)) as contact_id
    from events
    left join contacts on events.contact_id = contacts.contact_id
    left join emails on events.email = emails.email
    where coalesce(contacts.contact_id, emails.contact_id) is not null
    group by events.visitor_id, events.occurred_at
),

with_previous as (
    select
        identified.*,
        lag(contact_id) over (partition by visitor_id order by occurred_at) as previous_contact_id
    from identified
),

changes as (
    select
        visitor_id,
        contact_id,
        occurred_at as identified_at,
        row_number() over (partition by visitor_id order by occurred_at) as identity_no
    from with_previous
    where previous_contact_id is null or previous_contact_id <> contact_id
)

select
    visitor_id,
    contact_id,
    identified_at,
    case when identity_no = 1 then {{ beginning_of_time() }} else identified_at end as valid_from,
    coalesce(
        lead(identified_at) over (partition by visitor_id order by identity_no), {{ end_of_time() }}
    ) as valid_to
from changes
