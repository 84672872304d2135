-- Whom touchpoints name as they landed: of people who are not what they were, only those are searched in years of touchpoints who had ever
-- been named. Most are new and had not. Kept from build to build, and only added to.
{%- set landed = ref('int_touchpoints__landed') %}
{%- set looked_at = ref('int_touchpoints__looked_at') %}
with named as (
    {%- for kind, column, spelling in [
        ('contact', 'contact_id', 'contact_id'), ('email', 'email', 'email_spelling'), ('account', 'account_id', 'account_id')
    ] %}
    select distinct
        '{{ kind }}' as kind,
        {{ column }} as id,
        {{ spelling }} as spelling
    from {{ landed if is_full_build() else looked_at }}
    where {{ column }} is not null
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}
)

select
    named.kind,
    named.id,
    named.spelling
from named
{%- if not is_full_build() %}
left join {{ this }} as there on named.kind = there.kind and named.spelling = there.spelling
where there.kind is null
{%- endif %}
