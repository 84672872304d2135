{# Generic data tests of our own. What a table's key is stands in its YAML; the mart's contract takes it from there. #}

{# The table has one row per combination of these columns: its grain. #}
{% test one_row_per(model, columns) %}
select
    {{ columns | join(', ') }},
    count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}
