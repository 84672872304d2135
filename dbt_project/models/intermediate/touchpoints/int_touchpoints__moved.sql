-- What changed among the touchpoints since the last build: rows that are new (1) and rows that are no more (-1). A touchpoint that
-- was looked at again and stayed as it was is in neither. None in a full build.
{%- set columns = [
    'source', 'signal', 'match_status', 'occurred_at', 'event_date', 'known_at', 'known_date', 'contact_id', 'account_id',
] %}
{%- set touchpoints = ref('int_touchpoints') %}
{%- set kept = ref('int_touchpoints__kept') %}
{%- if is_full_build() %}
select
    {%- for column in columns %}
    {{ column }},
    {%- endfor %}
    {{ row_key(columns_of_a_day()) }} as day_key,
    cast(0 as bigint) as count_change
from {{ touchpoints }}
where 1 = 0
{%- else %}
select
    {%- for column in columns %}
    {{ column }},
    {%- endfor %}
    {{ row_key(columns_of_a_day()) }} as day_key,
    cast(sum(_side) as bigint) as count_change
from {{ differences(kept) }}
-- As in int_touchpoints: what a bot did counts nowhere.
where bot_reason is null
group by {{ columns | join(', ') }}
having sum(_side) <> 0
{%- endif %}
