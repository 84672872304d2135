select
    account_id,
    criterion
from {{ ref('score_contributions') }}
group by account_id, criterion
having count(*) > 1
