{#
    Who is below whom. How parents of accounts become ancestors stands here once; which links count is said in
    int_account_parents.
#}

{#
    CTEs <name>_1 to <name>_16: all pairs that up to sixteen links make, each with the time for which all of its links held.

    links: relation with account_id, below_account_id, valid_from, valid_to. The result has `distance`, the number of links, beside them.
    Each step doubles the one before: a longer way is its first half, whole, and the rest. Sixteen levels are followed, so that
    accounts that are each other's parents end the search as well.
#}
{% macro sixteen_levels(links, name) %}
{{ name }}_1 as (
    select
        account_id,
        below_account_id,
        1 as distance,
        valid_from,
        valid_to
    from {{ links }}
)
{%- for steps in [2, 4, 8, 16] %}
{%- set half = name ~ '_' ~ (steps // 2) %},

{{ name }}_{{ steps }} as (
    select * from {{ half }}

    union all

    select
        higher.account_id,
        lower_half.below_account_id,
        lower_half.distance + higher.distance as distance,
        greatest(lower_half.valid_from, higher.valid_from) as valid_from,
        least(lower_half.valid_to, higher.valid_to) as valid_to
    from {{ half }} as lower_half
    inner join {{ half }} as higher
        on
            lower_half.account_id = higher.below_account_id
            and lower_half.valid_from < higher.valid_to
            and higher.valid_from < lower_half.valid_to
    where lower_half.distance = {{ steps // 2 }}
)
{%- endfor %}
{% endmacro %}

{# The attribute of people's engagement that a criterion reads where behaviour rolls up (orchestration/lib/settings_tables.py). #}
{% macro rolled_up(attribute) -%} {{ attribute }}__rolled_up {%- endmacro %}
