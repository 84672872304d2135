-- Touchpoints that may say something else than at the last build, as they landed: a row landed or its moment came, or the person or
-- account behind it did not stay the same, or a bot was recognised or is so no more. More may stand here than differ, never fewer;
-- what is no more is not here (int_touchpoints__changed has its key). None in a full build.
{%- set landed = ref('int_touchpoints__landed') %}
{%- set sources = {
    'web': ref('stg_web__landed_events'),
    'email': ref('stg_email__landed_events'),
    'social': ref('stg_social__landed_interactions'),
    'activities': ref('stg_crm__landed_activities'),
    'campaign_members': ref('stg_crm__landed_campaign_members'),
    'nps_answers': ref('stg_survey__landed_nps_answers'),
} %}
{%- set arrived = ref('int_touchpoints__arrived') %}
{%- set people = ref('int_identities__changed') %}
{%- set bots = ref('int_bots') %}
{%- if is_full_build() %}
select *
from {{ landed }}
where 1 = 0
{%- else %}
with bots as (
    select distinct touchpoint_key
    from {{ differences(bots) }}
    where touchpoint_key not in (select touchpoint_key from {{ arrived }})
),

-- Visitors were there before anybody knew them.
spellings as (
    select
        kind,
        id as spelling
    from {{ people }}
    where kind = 'visitor'

    union all

    select
        named.kind,
        named.spelling
    from {{ not_yet_built('int_touchpoints__named') }} as named
    inner join {{ people }} as changed on named.kind = changed.kind and named.id = changed.id
),

people as (
    select
        kind,
        spelling,
        {{ search_number('spelling') }} as spelling_key
    from spellings
),

{%- set parts = {} %}
{%- for source, relation in sources.items() %}
{%- do parts.update({source: '(' ~ touchpoint_rows_as_of(source, source ~ '_rows') ~ ')'}) %}

{{ source }}_rows as (
    {{ landed_rows(relation, naming_conditions(source, 'people', 'bots')) }}
),
{%- endfor %}

found as (
    select *
    from {{ arrived }}

    union all

    select *
    from ({{ landed_touchpoints(parts) }}) as of_others
)

select distinct *
from found
{%- endif %}
