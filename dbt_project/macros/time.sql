{# Ends of time for validity intervals. #}
{% macro beginning_of_time() %}cast('1900-01-01 00:00:00' as timestamp){% endmacro %}
{% macro end_of_time() %}cast('9999-12-31 00:00:00' as timestamp){% endmacro %}

{#
    The refresh's one clock, as a scalar subquery. It is data, not a variable: a changed variable would make dbt parse
    the whole project again at every refresh.
#}
{% macro as_of_at() %}(select as_of_at from {{ source('settings', 'refresh') }}){% endmacro %}

{# The as-of moment of the build before this one, which the kept rows are from. Null where everything is built anew. #}
{% macro seen_until() %}(select seen_until from {{ source('increment', 'plan') }}){% endmacro %}

{# A moment at midnight sharp is a day without a time: what systems say that know days only. It counts as the last second of that day. #}
{% macro end_of_bare_day(moment) -%}
    case
        when {{ moment }} = cast(cast({{ moment }} as date) as timestamp) then {{ dbt.dateadd('second', 86399, moment) }}
        else {{ moment }}
    end
{%- endmacro %}
