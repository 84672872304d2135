{#
    Builds that cost what is new. A table that is kept from build to build says so by `materialized: incremental`; what is new since
    the last build stands in `increment.plan` and `increment.new_files`, and the tables of the last build that are made anew each time
    stand beside the new ones under their name with `__last` (orchestration/lib/increments.py).

    A full build (--full-refresh) reads none of them. Law: both give the same rows.
#}

{% macro is_full_build() %}{{ return(flags.FULL_REFRESH) }}{% endmacro %}

{# The table as the last build left it. Not to be read in a full build: it may be missing. #}
{% macro last_build(relation) %}
    {{ return(relation.incorporate(path={'identifier': relation.identifier ~ '__last'})) }}
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
    Keys whose rows differ between the last build's table and the new one, each once or more.

    columns: all that count, the key included. known_by: rows count only once this moment has come, as of each build.
#}
{% macro changed_since_last_build(relation, key, columns, known_by=none) %}
    select {{ key }}
    from (
        select {{ columns | join(', ') }}, 1 as side
        from {{ relation }}
        {%- if known_by is not none %}
        where {{ known_by }} <= {{ as_of_at() }}
        {%- endif %}
        union all
        select {{ columns | join(', ') }}, -1 as side
        from {{ last_build(relation) }}
        {%- if known_by is not none %}
        where {{ known_by }} <= {{ seen_until() }}
        {%- endif %}
    ) as both_builds
    group by {{ columns | join(', ') }}
    having sum(side) <> 0
{% endmacro %}

{# A condition after others: of a table that is kept, only the groups that are looked at again. #}
{% macro and_looked_at(key, looked_at) %}
    {%- if not is_full_build() -%}
    and {{ key }} in (select group_key from {{ looked_at }})
    {%- endif -%}
{% endmacro %}
