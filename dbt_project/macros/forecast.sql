{# Pinball loss of a quantile: what came above it counts by the level, what came below by the rest. Lower is better. #}
{% macro pinball(actual, quantile, level) -%}
    greatest({{ level }} * ({{ actual }} - {{ quantile }}), ({{ level }} - 1) * ({{ actual }} - {{ quantile }}))
{%- endmacro %}

{# Days before a moment of which the engagement of an account is counted; `TREND_DAYS` of ml.forecast.account_series is the same. #}
{% macro engagement_days() %}{{ return(28) }}{% endmacro %}

{# Whether rows of two relations are of one cell of the forecast: a period, and a dimension with its label. #}
{% macro same_cell(one, other) -%}
    {{ one }}.period_type = {{ other }}.period_type
    and {{ one }}.period_start = {{ other }}.period_start
    and {{ one }}.dimension = {{ other }}.dimension
    and {{ one }}.label = {{ other }}.label
{%- endmacro %}

{#
    What was won in periods, by cell.

    periods: a relation of the query, one row per period_type, period_start and period_end.
    Result: period_type, period_start, dimension, label and amount.
#}
{% macro won_in(periods) %}
    select
        periods.period_type,
        periods.period_start,
        won_amounts.dimension,
        won_amounts.label,
        sum(won_amounts.amount) as amount
    from {{ periods }} as periods
    inner join {{ ref('int_won_amounts') }} as won_amounts
        on won_amounts.closed_date >= periods.period_start and won_amounts.closed_date < periods.period_end
    group by periods.period_type, periods.period_start, won_amounts.dimension, won_amounts.label
{% endmacro %}

{#
    What people said and what counted at some moments: of each kind the newest record that had neither expired nor been withdrawn.
    The one place that says so.

    moments: a relation of the query, one row per seen_at, period_type, period_start, dimension and label.
    Result: these columns and submission_id, kind, amount.
#}
{% macro submissions_in_force(moments) %}
    select
        seen_at,
        period_type,
        period_start,
        dimension,
        label,
        submission_id,
        kind,
        amount
    from (
        select
            moments.seen_at,
            submissions.period_type,
            submissions.period_start,
            submissions.dimension,
            submissions.label,
            submissions.submission_id,
            submissions.kind,
            submissions.amount,
            row_number() over (
                partition by
                    moments.seen_at, submissions.period_type, submissions.period_start, submissions.dimension, submissions.label,
                    submissions.kind
                order by submissions.recorded_at desc nulls last, submissions.submission_id desc nulls last
            ) as newest_first
        from {{ moments }} as moments
        inner join {{ ref('int_forecast_submissions') }} as submissions
            on {{ same_cell('moments', 'submissions') }}
        where submissions.recorded_at <= moments.seen_at and submissions.ended_at > moments.seen_at
    ) as ranked
    where newest_first = 1
{% endmacro %}
