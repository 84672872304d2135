{#
    What stood of a deal at a moment: the columns stage, status, deal_amount (in its own currency), expected_close_date and closed_at.
    The one place that says what is taken from the record and what from the stage history.

    held: the version of the record that held, with is_closed_later (its closing comes after the moment: the deal is open).
    changes: the newest change of its stage up to the moment, or nulls.
    moment: the moment. A record that is from later than it stands for the time before, and knows less of it than the history.
    While a deal is open the newer of its record and its history speaks; what was written at the close is not known before it.
#}
{% macro deal_state(held, changes, moment) %}
    {{ _newer_of(held, changes, moment, 'stage') }} as stage,
    case when {{ held }}.is_closed_later then 'open' else {{ held }}.status end as status,
    {{ _newer_of(held, changes, moment, 'amount') }} as deal_amount,
    {{ _newer_of(held, changes, moment, 'expected_close_date') }} as expected_close_date,
    -- CRMs write a planned date into the close date of an open deal.
    case when {{ held }}.status <> 'open' and not {{ held }}.is_closed_later then {{ held }}.closed_at end as closed_at
{%- endmacro %}

{% macro _newer_of(held, changes, moment, column) -%}
    case
        when {{ held }}.is_closed_later then {{ changes }}.{{ column }}
        when {{ held }}.status <> 'open' then {{ held }}.{{ column }}
        when {{ held }}.version_at <= {{ moment }} and {{ changes }}.changed_at < {{ held }}.version_at
            then coalesce({{ held }}.{{ column }}, {{ changes }}.{{ column }})
        else coalesce({{ changes }}.{{ column }}, {{ held }}.{{ column }})
    end
{%- endmacro %}
