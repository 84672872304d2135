-- Whether contacts are recorded at all: where they are, an account without one has none.
select count(*) > 0 as are_known
from {{ ref('int_contacts') }}
