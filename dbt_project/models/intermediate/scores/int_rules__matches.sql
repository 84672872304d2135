-- For whom the conditions of each rule hold. The view is made from the rules at each refresh; its SQL may read these:
-- depends_on: {{ ref('int_accounts') }} {{ ref('int_account_attributes') }} {{ ref('int_accounts__states') }}
-- depends_on: {{ ref('int_accounts__scored') }} {{ ref('int_contacts') }} {{ ref('int_spine__contacts') }}
-- depends_on: {{ ref('int_touchpoints') }} {{ ref('stg_web__events') }}
select
    rule_id,
    account_id,
    contact_id,
    trigger_id,
    signal,
    occurred_at,
    known_at
from {{ source('settings', 'rule_matches') }}
