{#
    All versions of the records of a landed table, each with the time for which it held.

    A version is dated by the source (`updated_at`) or else by its arrival. Of two versions of the same moment the one that
    arrived last counts. The first version also stands for the time before it, because no export says more.
    Result: the table's columns, version_no (1 = first), valid_from (inclusive), valid_to (exclusive).

    The loader knows which keys have come more than once (_is_repeated). Only their rows are ranked: windows over all records
    would sort years of them at each refresh. Where it does not say, a key may have come more than once.
#}
{% macro record_versions(relation, key, has_updated_at=true) %}
    select
        landed.*,
        {{ _version_at(has_updated_at) }} as version_at,
        1 as newest_first,
        1 as version_no,
        {{ beginning_of_time() }} as valid_from,
        {{ end_of_time() }} as valid_to
    from {{ relation }} as landed
    where not coalesce(landed._is_repeated, true)

    union all

    select
        numbered.*,
        case
            when numbered.version_no = 1 then {{ beginning_of_time() }}
            else numbered.version_at
        end as valid_from,
        coalesce(
            lead(numbered.version_at) over (
                partition by {% for column in key %}numbered.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
                order by numbered.version_no
            ),
            {{ end_of_time() }}
        ) as valid_to
    from (
        select
            distinct_moments.*,
            row_number() over (
                partition by {% for column in key %}distinct_moments.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
                order by distinct_moments.version_at
            ) as version_no
        from (
            select
                dated.*,
                row_number() over (
                    partition by {% for column in key %}dated.{{ column }}, {% endfor %}dated.version_at
                    order by dated._arrived_at desc, dated._file desc, dated._row desc
                ) as newest_first
            from (
                select
                    landed.*,
                    {{ _version_at(has_updated_at) }} as version_at
                from {{ relation }} as landed
                where coalesce(landed._is_repeated, true)
            ) as dated
        ) as distinct_moments
        where distinct_moments.newest_first = 1
    ) as numbered
{% endmacro %}

{# The moment from which a row counts as its record's version. #}
{% macro _version_at(has_updated_at) -%}
    {%- if has_updated_at -%} coalesce(landed.updated_at, landed._arrived_at) {%- else -%} landed._arrived_at {%- endif -%}
{%- endmacro %}

{# The version of each record that held at the refresh's as-of moment. #}
{% macro records_as_of(relation, key, has_updated_at=true) %}
    select versions.*
    from ({{ record_versions(relation, key, has_updated_at) }}) as versions
    where versions.valid_from <= {{ as_of_at() }} and versions.valid_to > {{ as_of_at() }}
{% endmacro %}

{#
    One row per event: of records with the same key the one that arrived last. Later events than the as-of moment do not exist.
    moment: a column, or an expression of columns.

    As with records, only keys that have come more than once are ranked.
#}
{% macro events_as_of(relation, key, moment) %}
    select
        landed.*,
        1 as newest_first
    from {{ relation }} as landed
    where not coalesce(landed._is_repeated, true) and {{ moment }} <= {{ as_of_at() }}

    union all

    select ranked.*
    from (
        select
            landed.*,
            row_number() over (
                partition by landed.{{ key }} order by landed._arrived_at desc, landed._file desc, landed._row desc
            ) as newest_first
        from {{ relation }} as landed
        where coalesce(landed._is_repeated, true)
    ) as ranked
    where ranked.newest_first = 1 and {{ moment }} <= {{ as_of_at() }}
{% endmacro %}

{#
    Landed rows of keys that may say something else than at the last build: a row of the key has landed since, or its moment has come.
    All rows of such a key, also those that no longer count, so that what counts can be told from these rows alone.

    moment: when a row takes effect. versions_by: for records with versions, when a version does.

    A key that has come once has no other row than the one that is found; only marked keys are searched for the others. Files follow each
    other in the table, so that a join by arrival reads the end of it.
#}
{% macro changed_rows(relation, moment, versions_by=none) %}
with differing as (
    select landed.*
    from {{ relation }} as landed
    inner join {{ source('increment', 'new_files') }} as new_files
        on landed._arrived_at = new_files.arrived_at and landed._file = new_files.file

    union all

    select landed.*
    from {{ relation }} as landed
    where
        landed.{{ moment }} > {{ seen_until() }}
        and landed._file not in (select file from {{ source('increment', 'new_files') }})
    {%- if versions_by is not none %}

    union all

    -- Apart, so that each condition can be answered from what is known of pieces of the table.
    select landed.*
    from {{ relation }} as landed
    where
        landed._is_repeated
        and coalesce(landed.{{ versions_by }}, landed._arrived_at) > {{ seen_until() }}
        and not coalesce(landed.{{ moment }} > {{ seen_until() }}, false)
        and landed._file not in (select file from {{ source('increment', 'new_files') }})
    {%- endif %}
)

select differing.*
from differing
where not coalesce(differing._is_repeated, true)

union all

select landed.*
from {{ relation }} as landed
where
    coalesce(landed._is_repeated, true)
    and landed._key_hash in (select _key_hash from differing where coalesce(_is_repeated, true))
{% endmacro %}

{#
    Which records are merged, and into which: two macros, so that a new record, which is merged hardly ever, asks for itself alone.

    A merged record points at the one that it was merged into, which may itself have been merged: sixteen steps are followed,
    each join doubling those of the one before. A pointer to a record that was never landed is not followed; records that point
    at each other in a circle stand for themselves.
#}
{% macro merged_records(relation, entity) %}
with records as (
    {{ records_as_of(relation, [entity ~ '_id']) }}
),

links as (
    select
        merged.{{ entity }}_id,
        target.{{ entity }}_id as into_id
    from records as merged
    inner join records as target on merged.merged_into_{{ entity }}_id = target.{{ entity }}_id
    where merged.{{ entity }}_id <> target.{{ entity }}_id
),
{% for steps in [2, 4, 8, 16] %}
{%- set half = 'links' if steps == 2 else 'steps_' ~ (steps // 2) %}
steps_{{ steps }} as (
    select
        nearer.{{ entity }}_id,
        coalesce(farther.into_id, nearer.into_id) as into_id
    from {{ half }} as nearer
    left join {{ half }} as farther on nearer.into_id = farther.{{ entity }}_id
),
{% endfor %}
resolved as (
    select
        steps_16.{{ entity }}_id,
        steps_16.into_id as surviving_{{ entity }}_id
    from steps_16
    left join links as onward on steps_16.into_id = onward.{{ entity }}_id
    where onward.{{ entity }}_id is null
)

select * from resolved
{% endmacro %}

{# Which record each one stands for: `merges` are those of merged_records, all others stand for themselves. #}
{% macro surviving_records(relation, merges, entity) %}
select
    records.{{ entity }}_id,
    coalesce(merges.surviving_{{ entity }}_id, records.{{ entity }}_id) as surviving_{{ entity }}_id
from ({{ records_as_of(relation, [entity ~ '_id']) }}) as records
left join {{ merges }} as merges on records.{{ entity }}_id = merges.{{ entity }}_id
{% endmacro %}

{# Landed rows, each with the place at which the engine finds it without a look at others. To be read by `landed_rows` alone. #}
{% macro landed_places(relation) %}
select
    landed.*,
    {{ row_place('landed') }} as _place
from {{ relation }} as landed
{% endmacro %}

{#
    All landed rows of the keys of which some row meets one of the conditions, also those that no longer count and those that do not meet it.

    landed: a relation with `_place`. conditions: each about one column, so that years of rows are searched by that column alone, and only what
    is found is read as a whole. A key that has come once has no other row than the one that is found.
    columns: those that are read beside what tells versions; none = all.
#}
{% macro landed_rows(landed, conditions, columns=none) %}
    select
        {%- if columns is none %}
        *
        {%- else %}
        {%- for column in columns + ['_key_hash', '_is_repeated', '_arrived_at', '_file', '_row'] %}
        {{ column }},
        {%- endfor %}
        _place
        {%- endif %}
    from {{ landed }}
    where _place in (
        {%- for condition in conditions %}
        select _place
        from {{ landed }}
        where not coalesce(_is_repeated, true) and {{ condition }}

        union all

        select _place
        from {{ landed }}
        where
            coalesce(_is_repeated, true)
            and _key_hash in (
                select _key_hash
                from {{ landed }}
                where coalesce(_is_repeated, true) and {{ condition }}
            )
        {%- if not loop.last %}

        union all
        {% endif %}
        {%- endfor %}
    )
{% endmacro %}
