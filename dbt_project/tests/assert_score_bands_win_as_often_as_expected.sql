select *
from {{ ref('model_health') }}
where check_name = 'score_band' and status in ('warn', 'fail')
