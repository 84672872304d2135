-- Kept from build to build: only people of whom a touchpoint came or went are counted again.
{%- set moved = ref('int_touchpoints__moved') %}
select
    contact_key,
    cast(sum(touchpoint_count) as bigint) as touchpoint_count,
    max(event_date) as last_touchpoint_date
from {{ ref('int_touchpoints__daily') }}
where
    contact_key is not null
    {%- if not is_full_build() %}
    and contact_key in (select contact_key from {{ moved }})
    {%- endif %}
group by contact_key
