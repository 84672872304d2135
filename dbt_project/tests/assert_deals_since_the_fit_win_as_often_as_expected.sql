select *
from {{ ref('model_health') }}
where check_name = 'calibration' and status in ('warn', 'fail')
