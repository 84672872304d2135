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

{# Whole seconds from one moment to another, negative where the second one is earlier. #}
{% macro seconds_between(first, last) -%}
    {{ dbt.datediff(first, last, 'second') }}
{%- endmacro %}
