-- Answers to surveys with their person and account: some of all touchpoints. Kept from build to build.
{%- set touchpoints = ref('int_touchpoints') %}
{%- set kept = ref('int_touchpoints__kept') %}
select
    touchpoint_key,
    touchpoint_id as answer_id,
    contact_id,
    account_id,
    known_at
{%- if is_full_build() %}
from {{ touchpoints }}
where source = 'survey'
{%- else %}
from {{ differences(kept) }}
where source = 'survey' and bot_reason is null and _side = 1
{%- endif %}
