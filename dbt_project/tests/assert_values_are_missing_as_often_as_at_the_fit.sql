select *
from {{ ref('model_health') }}
where check_name = 'missing_change' and status in ('warn', 'fail')
