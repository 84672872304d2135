select *
from {{ ref('model_health') }}
where check_name = 'psi' and status in ('warn', 'fail')
