{#
    What stood of a deal at a moment: the columns stage, status, deal_amount (in its own currency), expected_close_date and closed_at.
    The one place that says what is taken from the record and what from the stage history.

    held: the version of the record that held, with is_closed_later (its closing comes after the moment: the deal is open).
    changes: the newest change of its stage up to the moment, or nulls.
    While a deal is open its history speaks before its record; what was written at the close is not known before it.
#}
{% macro deal_state(held, changes) %}
    case
        when {{ held }}.is_closed_later then {{ changes }}.stage
        else coalesce(case when {{ held }}.status = 'open' then {{ changes }}.stage end, {{ held }}.stage)
    end as stage,
    case when {{ held }}.is_closed_later then 'open' else {{ held }}.status end as status,
    case
        when {{ held }}.is_closed_later then {{ changes }}.amount
        else coalesce(case when {{ held }}.status = 'open' then {{ changes }}.amount end, {{ held }}.amount)
    end as deal_amount,
    case
        when {{ held }}.is_closed_later then {{ changes }}.expected_close_date
        else
            coalesce(
                case when {{ held }}.status = 'open' then {{ changes }}.expected_close_date end, {{ held }}.expected_close_date
            )
    end as expected_close_date,
    -- CRMs write a planned date into the close date of an open deal.
    case when {{ held }}.status <> 'open' and not {{ held }}.is_closed_later then {{ held }}.closed_at end as closed_at
{%- endmacro %}
