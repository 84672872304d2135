{#
    Builds that cost what is new. A table that is kept from build to build says so by `materialized: incremental`; what is new since
    the last build stands in `increment.plan` and `increment.new_files` (orchestration/lib/increments.py), and the rows in which other
    tables differ from the last build's in `increment.<table>__differences` (orchestration/lib/differences.py).

    A full build (--full-refresh) reads none of them. Law: both give the same rows.
#}

{% macro is_full_build() %}{{ return(flags.FULL_REFRESH) }}{% endmacro %}

{#
    The rows in which a table that is compared (`is_compared`) differs from the last build's: its columns and `_side`, 1 for new rows and
    -1 for old ones. Not to be read in a full build: it may be missing.
#}
{% macro differences(relation) %}
    {{ return(relation.incorporate(path={'schema': 'increment', 'identifier': relation.identifier ~ '__differences'})) }}
{% endmacro %}

{# For a model that reads what another one held before this build: a reference would be a circle. #}
{% macro not_yet_built(name) %}
    {{ return(this.incorporate(path={'identifier': name})) }}
{% endmacro %}

{#
    Hooks of a table that is kept: which rows go before the model runs and which at the end is said once, as conditions under `meta`,
    because refreshes read them from there (orchestration/lib/model_builds.py); these two serve whoever calls dbt by hand.
#}
{% macro remove_before() %}
    {%- if is_incremental() -%}
    delete from {{ this }} where {{ model.config.meta.remove_before }}
    {%- endif -%}
{% endmacro %}

{% macro remove_after() %}
    {%- if is_incremental() -%}
    delete from {{ this }} where {{ model.config.meta.remove_after }}
    {%- endif -%}
{% endmacro %}

{#
    Of a table that is looked up for few rows: the condition that says which rows those ask for. In a full build all of them do.
    values: a subquery.
#}
{% macro only_of(column, values) %}
    {%- if not is_full_build() -%}
    where {{ column }} in ({{ values }})
    {%- endif -%}
{% endmacro %}

{#
    Keys whose rows are not those of the last build, each once or more.

    known_by: rows count only once this moment has come, as of each build.
#}
{% macro changed_since_last_build(relation, key, known_by=none) %}
    select {{ key }}
    from {{ differences(relation) }}
    {%- if known_by is not none %}

    union all

    select {{ key }}
    from {{ relation }}
    where {{ known_by }} > {{ seen_until() }} and {{ known_by }} <= {{ as_of_at() }}
    {%- endif %}
{% endmacro %}
