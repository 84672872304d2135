-- Which touchpoints may say something else than at the last build: because a row landed or its moment came, or because the person
-- or account behind it did not stay the same, or because a bot was recognised or is so no more. More may stand here than differ,
-- never fewer. None in a full build.
{%- set landed = ref('int_touchpoints__landed') %}
{%- set people = ref('int_identities__changed') %}
{%- set bots = ref('int_bots') %}
{%- set looked_at = ref('int_bots__looked_at') %}
{%- set bots_before = ref('int_bots__before') %}
{%- if is_full_build() %}
select distinct touchpoint_key
from {{ landed }}
where 1 = 0
{%- else %}
with changed_rows as (
    select touchpoint_key from {{ bots_before }}

    union all

    select bots.touchpoint_key
    from {{ bots }} as bots
    inner join {{ looked_at }} as looked_at on bots.group_key = looked_at.group_key

    union all
    {%- for source in [
        ref('stg_web__changed_events'), ref('stg_email__changed_events'), ref('stg_social__changed_interactions'),
        ref('stg_crm__changed_activities'), ref('stg_crm__changed_campaign_members'),
        ref('stg_survey__changed_nps_answers'),
    ] %}
    select _key_hash as touchpoint_key from {{ source }}

    union all
    {% endfor %}
    {%- for kind, column in [
        ('contact', 'contact_id'), ('email', 'email'), ('visitor', 'visitor_id'), ('account', 'account_id')
    ] %}
    select landed.touchpoint_key
    from {{ landed }} as landed
    inner join {{ people }} as changed on changed.kind = '{{ kind }}' and landed.{{ column }} = changed.id
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}
)

select distinct touchpoint_key
from changed_rows
{%- endif %}
