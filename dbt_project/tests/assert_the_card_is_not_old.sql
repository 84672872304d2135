select *
from {{ ref('model_health') }}
where check_name = 'card_age' and status in ('warn', 'fail')
