-- Which function they have is told here and not beside the days: another one is found by the days of those who were engaged, and not by
-- everybody's.
select
    engaged.account_id,
    contacts.contact_id,
    contacts.job_function,
    engaged.from_at,
    engaged.until_at
from {{ ref('int_people__engaged') }} as engaged
inner join {{ ref('int_contacts') }} as contacts on engaged.contact_key = contacts.contact_key
