{#
    All that differs between database engines, and nothing else. A model never names a function that only one engine has:
    it calls a macro of this file.
#}

{# Whole-number division that rounds towards zero, without a detour over floating point. #}
{% macro integer_divide(dividend, divisor) -%}
    {{ return(adapter.dispatch('integer_divide')(dividend, divisor)) }}
{%- endmacro %}

{% macro default__integer_divide(dividend, divisor) -%}
    (({{ dividend }}) div ({{ divisor }}))
{%- endmacro %}

{% macro duckdb__integer_divide(dividend, divisor) -%}
    (({{ dividend }}) // ({{ divisor }}))
{%- endmacro %}

{# A cast that gives null where the text is not of the type. #}
{% macro try_cast(expression, type) -%}
    try_cast({{ expression }} as {{ type }})
{%- endmacro %}

{# Days from one date to another. #}
{% macro days_between(first, last) -%}
    {{ dbt.datediff(first, last, 'day') }}
{%- endmacro %}

{# A whole number for some columns together: equal rows have equal numbers, nulls included; unequal ones hardly ever do. #}
{% macro row_key(columns) -%}
    {{ return(adapter.dispatch('row_key')(columns)) }}
{%- endmacro %}

{% macro default__row_key(columns) -%}
    xxhash64({{ columns | join(', ') }})
{%- endmacro %}

{% macro duckdb__row_key(columns) -%}
    cast(hash({{ columns | join(', ') }}) >> 1 as bigint)
{%- endmacro %}

{# A whole number for an id; null for none. Years of days are searched by it in a third of the time that the text takes. #}
{% macro id_key(column) -%}
    case when {{ column }} is not null then {{ row_key([column]) }} end
{%- endmacro %}

{#
    A small number for a value, by which landed rows are searched (`searched` in a contract); some values share one. null for none; as the
    loader writes it beside the values.
#}
{% macro search_number(column) -%}
    {{ return(adapter.dispatch('search_number')(column)) }}
{%- endmacro %}

{% macro default__search_number(column) -%}
    cast(shiftrightunsigned(xxhash64({{ column }}), 33) as int)
{%- endmacro %}

{% macro duckdb__search_number(column) -%}
    cast(hash({{ column }}) >> 33 as integer)
{%- endmacro %}

{# Whole seconds from one moment to another, negative where the second one is earlier. #}
{% macro seconds_between(first, last) -%}
    {{ dbt.datediff(first, last, 'second') }}
{%- endmacro %}

{#
    Places that are reached step by step: those of `firsts`, and from each the one that `steps` says, as often as there is one. Both are
    relations of the query with the columns `keys` and `place`, `steps` also with `next_place`, which is larger than `place`. Engines
    agree on recursion only where the step is a join and nothing else.
#}
{% macro reached(firsts, steps, keys, place, next_place) -%}
    with recursive all_steps as {{ kept_aside() }} (
        select {{ keys | join(', ') }}, {{ place }}, {{ next_place }}
        from {{ steps }}
    ),

    reached_so_far as (
        select {{ keys | join(', ') }}, {{ place }}
        from {{ firsts }}

        union all

        select
            {%- for key in keys %}
            all_steps.{{ key }},
            {%- endfor %}
            all_steps.{{ next_place }} as {{ place }}
        from reached_so_far
        inner join all_steps
            on
                reached_so_far.{{ place }} = all_steps.{{ place }}
                {%- for key in keys %}
                and reached_so_far.{{ key }} = all_steps.{{ key }}
                {%- endfor %}
    )

    select {{ keys | join(', ') }}, {{ place }}
    from reached_so_far
{%- endmacro %}

{# Said of a subquery that is read again and again: to be computed once. #}
{% macro kept_aside() -%}
    {{ return(adapter.dispatch('kept_aside')()) }}
{%- endmacro %}

{% macro default__kept_aside() -%}
{%- endmacro %}

{% macro duckdb__kept_aside() -%}
    materialized
{%- endmacro %}

{# Where a row of a table stands, by which the engine finds it again without a search; where it has no such thing, the hash of the key. #}
{% macro row_place(relation) -%}
    {{ return(adapter.dispatch('row_place')(relation)) }}
{%- endmacro %}

{% macro default__row_place(relation) -%}
    {{ relation }}._key_hash
{%- endmacro %}

{% macro duckdb__row_place(relation) -%}
    {{ relation }}.rowid
{%- endmacro %}
