-- A contact is scored by the rows of its account's segment.
with segments as (
    select
        spine_id as account_id,
        scorecard_version,
        max(segment) as segment
    from {{ ref('int_accounts__points') }}
    where segment <> ''
    group by spine_id, scorecard_version
)

select
    contacts.spine_id,
    segments.scorecard_version,
    segments.segment
from {{ ref('int_spine__contacts') }} as contacts
inner join segments on contacts.account_id = segments.account_id
