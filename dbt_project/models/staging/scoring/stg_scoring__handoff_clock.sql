-- A refresh of a moment that is not after the last crossing looks back: nobody crosses in the past.
select coalesce(max(changed_at), {{ beginning_of_time() }}) as last_changed_at
from {{ source('raw', 'scoring__handoff_crossings') }}
