-- Touchpoints of all kinds counted by day, also of people whom nobody knows: one look at all of them for whoever asks. Kept from
-- build to build: counts are corrected by what changed; where a touchpoint at an end of its day went, the day is looked at again.
{%- set columns = ['source', 'signal', 'match_status', 'event_date'] %}
{%- set touchpoints = ref('int_touchpoints') %}
{%- set moved = ref('int_touchpoints__moved') %}
{%- if not is_full_build() %}
with moved as (
    select
        {{ row_key(columns) }} as count_key,
        {{ columns | join(', ') }},
        cast(sum(count_change) as bigint) as count_change,
        min(case when count_change > 0 then occurred_at end) as first_occurred_at,
        max(case when count_change > 0 then occurred_at end) as last_occurred_at,
        min(case when count_change < 0 then occurred_at end) as first_gone_at,
        max(case when count_change < 0 then occurred_at end) as last_gone_at
    from {{ moved }}
    group by {{ columns | join(', ') }}
),

corrected as (
    select
        moved.*,
        coalesce(kept.touchpoint_count, 0) + moved.count_change as touchpoint_count,
        least(coalesce(kept.first_occurred_at, moved.first_occurred_at), moved.first_occurred_at) as earliest_at,
        greatest(coalesce(kept.last_occurred_at, moved.last_occurred_at), moved.last_occurred_at) as latest_at,
        coalesce(moved.first_gone_at <= kept.first_occurred_at or moved.last_gone_at >= kept.last_occurred_at, false)
            as is_end_gone
    from moved
    left join {{ this }} as kept
        on
            moved.count_key = kept.count_key
            {%- for column in columns %}
            and moved.{{ column }} = kept.{{ column }}
            {%- endfor %}
),

ends as (
    select
        corrected.count_key,
        {%- for column in columns %}
        corrected.{{ column }},
        {%- endfor %}
        min(touchpoints.occurred_at) as first_occurred_at,
        max(touchpoints.occurred_at) as last_occurred_at
    from corrected
    inner join {{ touchpoints }} as touchpoints
        on
            {%- for column in columns %}
            {{ 'and ' if not loop.first }}corrected.{{ column }} = touchpoints.{{ column }}
            {%- endfor %}
    where corrected.is_end_gone
    group by corrected.count_key, corrected.{{ columns | join(', corrected.') }}
)

select
    corrected.count_key,
    {%- for column in columns %}
    corrected.{{ column }},
    {%- endfor %}
    case when corrected.is_end_gone then ends.first_occurred_at else corrected.earliest_at end as first_occurred_at,
    case when corrected.is_end_gone then ends.last_occurred_at else corrected.latest_at end as last_occurred_at,
    corrected.touchpoint_count
from corrected
left join ends
    on
        corrected.count_key = ends.count_key
        {%- for column in columns %}
        and corrected.{{ column }} = ends.{{ column }}
        {%- endfor %}
{%- else %}
select
    {{ row_key(columns) }} as count_key,
    {{ columns | join(', ') }},
    min(occurred_at) as first_occurred_at,
    max(occurred_at) as last_occurred_at,
    count(*) as touchpoint_count
from {{ touchpoints }}
group by {{ columns | join(', ') }}
{%- endif %}
