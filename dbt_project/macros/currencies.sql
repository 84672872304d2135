{#
    Amounts of other currencies in the workspace's. The one place that says how: a deal's currency, the rate of a day, the conversion.
    A rate holds from its day until the next one; without one up to the day the amount is unknown, and never taken 1 to 1.
#}

{# The currency of a record: what it says, or else the workspace's. refresh: a relation of the query with the column currency. #}
{% macro currency_of(record, refresh) -%}
    coalesce(nullif(upper(trim({{ record }}.currency)), ''), {{ refresh }}.currency)
{%- endmacro %}

{#
    The rates on the days that a relation of the query asks for: currency, rate_day, rate.

    relation: with the columns currency and rate_day. Joined on both by equality, each row finds one rate or none; the workspace
    currency has none.
    The days are looked up once each and not row by row: deals are many, days and currencies few.
#}
{% macro rates_on_days(relation) %}
    select
        asked.currency,
        asked.rate_day,
        rates.rate
    from (
        select distinct
            currency,
            rate_day
        from {{ relation }}
    ) as asked
    inner join {{ ref('int_exchange_rates') }} as rates
        on
            asked.currency = rates.currency
            and asked.rate_day >= rates.from_date
            and asked.rate_day < rates.until_date
{% endmacro %}

{# An amount at a rate, to the cent. Wider than both, because DuckDB multiplies two decimals of 18 digits within 18 digits. #}
{% macro at_rate(amount, rate) -%}
    cast(cast({{ amount }} as decimal(20, 2)) * {{ rate }} as decimal(18, 2))
{%- endmacro %}

{# An amount in the workspace currency; null where it is in another one that has no rate. #}
{% macro converted(amount, is_workspace_currency, rate) -%}
    case when {{ is_workspace_currency }} then {{ amount }} else {{ at_rate(amount, rate) }} end
{%- endmacro %}
