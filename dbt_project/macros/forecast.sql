{# Pinball loss of a quantile: what came above it counts by the level, what came below by the rest. Lower is better. #}
{% macro pinball(actual, quantile, level) -%}
    greatest({{ level }} * ({{ actual }} - {{ quantile }}), ({{ level }} - 1) * ({{ actual }} - {{ quantile }}))
{%- endmacro %}

{# Days before a moment of which the engagement of an account is counted; `TREND_DAYS` of ml.forecast.account_series is the same. #}
{% macro engagement_days() %}{{ return(28) }}{% endmacro %}
