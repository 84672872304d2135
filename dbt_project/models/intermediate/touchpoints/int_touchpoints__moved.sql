-- What changed among the touchpoints since the last build: rows that are new (1) and rows that are no more (-1). A touchpoint that
-- was looked at again and stayed as it was is in neither. None in a full build.
{%- set columns = [
    'source', 'signal', 'match_status', 'occurred_at', 'event_date', 'known_at', 'known_date', 'contact_id', 'account_id',
] %}
{%- set touchpoints = ref('int_touchpoints') %}
{%- set kept = ref('int_touchpoints__kept') %}
with moved as (
    select
        {%- for column in columns %}
        {{ column }},
        {%- endfor %}
        {{ id_key('account_id') }} as account_key,
        {{ id_key('contact_id') }} as contact_key,
        {%- if is_full_build() %}
        cast(0 as bigint) as count_change
    from {{ touchpoints }}
    where 1 = 0
        {%- else %}
        cast(sum(_side) as bigint) as count_change
    from {{ differences(kept) }}
    -- As in int_touchpoints: what a bot did counts nowhere.
    where bot_reason is null
    group by {{ columns | join(', ') }}
    having sum(_side) <> 0
        {%- endif %}
)

select
    *,
    {{ row_key(columns_of_a_day()) }} as day_key
from moved
