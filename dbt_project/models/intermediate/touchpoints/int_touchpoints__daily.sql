-- Kept from build to build: the counts are corrected by what changed among the touchpoints. Account and contact are numbers, made of their
-- ids: no table is read as often, and texts would be most of the cost of writing, grouping and reading it.
{%- set columns = columns_of_a_day() %}
{%- set touchpoints = ref('int_touchpoints') %}
{%- set moved = ref('int_touchpoints__moved') %}
{%- if not is_full_build() %}
with moved as (
    select
        day_key as count_key,
        {{ columns | join(', ') }},
        count_change
    from {{ moved }}
    where account_key is not null
),

counts as (
    select
        count_key,
        {{ columns | join(', ') }},
        touchpoint_count
    from {{ this }}
    where count_key in (select count_key from moved)

    union all

    select
        count_key,
        {{ columns | join(', ') }},
        count_change as touchpoint_count
    from moved
)
{%- else %}
with touchpoints as (
    select
        {{ id_key('account_id') }} as account_key,
        {{ id_key('contact_id') }} as contact_key,
        signal,
        event_date,
        known_date
    from {{ touchpoints }}
    where account_id is not null
),

counts as (
    select
        {{ row_key(columns) }} as count_key,
        {{ columns | join(', ') }},
        1 as touchpoint_count
    from touchpoints
)
{%- endif %}

select
    count_key,
    {{ columns | join(', ') }},
    cast(sum(touchpoint_count) as bigint) as touchpoint_count
from counts
group by count_key, {{ columns | join(', ') }}
