select
    accounts.account_id as spine_id,
    accounts.account_id,
    cast(null as {{ dbt.type_string() }}) as contact_id,
    refresh.as_of_at,
    refresh.as_of_date
from {{ ref('int_accounts') }} as accounts
cross join {{ source('settings', 'refresh') }} as refresh
