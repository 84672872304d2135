{# Pinball loss of a quantile: what came above it counts by the level, what came below by the rest. Lower is better. #}
{% macro pinball(actual, quantile, level) -%}
    greatest({{ level }} * ({{ actual }} - {{ quantile }}), ({{ level }} - 1) * ({{ actual }} - {{ quantile }}))
{%- endmacro %}
