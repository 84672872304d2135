-- The touchpoints that may have changed, as the last build had them. None in a full build.
{%- set columns = [
    'source', 'touchpoint_key', 'signal', 'match_status', 'occurred_at', 'event_date', 'known_at', 'known_date', 'contact_id',
    'account_id',
] %}
{%- set landed = ref('int_touchpoints__landed') %}
{%- set changed = ref('int_touchpoints__changed') %}
{%- if is_full_build() %}
select
    landed.source,
    landed.touchpoint_key,
    landed.signal,
    landed.signal as match_status,
    landed.occurred_at,
    cast(landed.occurred_at as date) as event_date,
    landed.occurred_at as known_at,
    cast(landed.occurred_at as date) as known_date,
    landed.contact_id,
    landed.account_id
from {{ landed }} as landed
where 1 = 0
{%- else %}
-- Nearly always what changed is new, and none of it was there: found by the key alone, before the other columns are read.
with there as (
    select touchpoint_key
    from {{ not_yet_built('int_touchpoints') }}
    where touchpoint_key in (select touchpoint_key from {{ changed }})
)

select
    {%- for column in columns %}
    touchpoints.{{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
from {{ not_yet_built('int_touchpoints') }} as touchpoints
where touchpoint_key in (select touchpoint_key from there)
{%- endif %}
