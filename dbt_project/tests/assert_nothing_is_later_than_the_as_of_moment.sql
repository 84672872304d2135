-- A condition each: an engine that knows the extremes of its pieces of a table then reads none of them, and with `or` all.
{%- for model, what, id, moments in [
    ('int_touchpoints', 'touchpoint', 'touchpoint_id', ['occurred_at', 'known_at']),
    ('int_deals', 'deal', 'opportunity_id', ['closed_at', 'opened_at']),
] %}
{%- set loop_of_models = loop %}
{%- for moment in moments %}
select
    '{{ what }}' as what,
    {{ id }} as id
from {{ ref(model) }}
where {{ moment }} > {{ as_of_at() }}
{%- if not (loop.last and loop_of_models.last) %}

union
{% endif %}
{%- endfor %}
{%- endfor %}
