-- What changed among the touchpoints since the last build: rows that are new (1) and rows that are no more (-1). A touchpoint that
-- was looked at again and stayed as it was is in neither. None in a full build.
{%- set columns = [
    'source', 'signal', 'match_status', 'occurred_at', 'event_date', 'known_at', 'known_date', 'contact_id', 'account_id',
] %}
with both_builds as (
    select
        {%- for column in columns %}
        touchpoints.{{ column }},
        {%- endfor %}
        1 as side
    from {{ ref('int_touchpoints') }} as touchpoints
    inner join {{ ref('int_touchpoints__changed') }} as changed on touchpoints.touchpoint_key = changed.touchpoint_key

    union all

    select
        {%- for column in columns %}
        {{ column }},
        {%- endfor %}
        -1 as side
    from {{ ref('int_touchpoints__before') }}
)

select
    {%- for column in columns %}
    {{ column }},
    {%- endfor %}
    cast(sum(side) as bigint) as count_change
from both_builds
group by {{ columns | join(', ') }}
having sum(side) <> 0
