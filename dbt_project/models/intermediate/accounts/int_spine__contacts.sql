with links as (
    select distinct
        links.contact_id,
        links.account_id
    from {{ ref('int_contact_accounts') }} as links
    where links.valid_to > {{ as_of_at() }} and links.known_at <= {{ as_of_at() }}
)

select
    contacts.contact_id as spine_id,
    min(links.account_id) as account_id,
    contacts.contact_id,
    max(refresh.as_of_at) as as_of_at,
    max(refresh.as_of_date) as as_of_date
from {{ ref('int_contacts') }} as contacts
inner join links on contacts.contact_id = links.contact_id
cross join {{ source('settings', 'refresh') }} as refresh
group by contacts.contact_id
