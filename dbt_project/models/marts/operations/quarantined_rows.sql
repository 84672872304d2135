{%- set landed_tables = [
    'crm__accounts',
    'crm__activities',
    'crm__campaign_members',
    'crm__campaigns',
    'crm__contacts',
    'crm__opportunities',
    'crm__opportunity_stage_history',
    'crm__products',
    'crm__targets',
    'crm__users',
    'email__events',
    'market__exchange_rates',
    'market__industry_benchmarks',
    'scoring__adjustments',
    'scoring__forecast_submissions', 'scoring__handoff_crossings',
    'scoring__handoff_feedback', 'scoring__segment_changes',
    'social__interactions',
    'survey__nps_answers',
    'web__events',
] %}
{%- for landed_table in landed_tables %}
select
    '{{ landed_table }}' as source_table,
    {{ adapter.quote('file') }} as file_name,
    {{ adapter.quote('row') }} as row_no,
    column_name,
    rule,
    value
from {{ source('quarantine', landed_table) }}
{%- if not loop.last %}
union all
{%- endif %}
{%- endfor %}
