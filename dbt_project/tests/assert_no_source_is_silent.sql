select *
from {{ ref('model_health') }}
where check_name = 'silence' and status in ('warn', 'fail')
