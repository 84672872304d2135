select *
from {{ ref('load_report') }}
where rows_in <> rows_loaded + rows_already_there + rows_quarantined
