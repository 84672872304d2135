{#
    All versions of the records of a landed table, each with the time for which it held.

    A version is dated by the source (`updated_at`) or else by its arrival. Of two versions of the same moment the one that
    arrived last counts. The first version also stands for the time before it, because no export says more.
    Result: the table's columns, version_no (1 = first), valid_from (inclusive), valid_to (exclusive).
#}
{% macro record_versions(relation, key, has_updated_at=true) %}
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
                    {% if has_updated_at -%}
                    coalesce(landed.updated_at, landed._arrived_at)
                    {%- else -%}
                    landed._arrived_at
                    {%- endif %} as version_at
                from {{ relation }} as landed
            ) as dated
        ) as distinct_moments
        where distinct_moments.newest_first = 1
    ) as numbered
{% endmacro %}

{# The version of each record that held at the refresh's as-of moment. #}
{% macro records_as_of(relation, key, has_updated_at=true) %}
    select versions.*
    from ({{ record_versions(relation, key, has_updated_at) }}) as versions
    where versions.valid_from <= {{ as_of_at() }} and versions.valid_to > {{ as_of_at() }}
{% endmacro %}

{# One row per event: of two records with the same key the one that arrived last. Later events than the as-of moment do not exist. #}
{% macro events_as_of(relation, key, moment) %}
    select ranked.*
    from (
        select
            landed.*,
            row_number() over (
                partition by landed.{{ key }} order by landed._arrived_at desc, landed._file desc, landed._row desc
            ) as newest_first
        from {{ relation }} as landed
    ) as ranked
    where ranked.newest_first = 1 and ranked.{{ moment }} <= {{ as_of_at() }}
{% endmacro %}
