-- Keys of the touchpoints that are made again. What has come once and was not seen by the last build cannot stand in its table: it
-- need not be searched there. None in a full build.
{%- set looked_at = ref('int_touchpoints__looked_at') %}
{%- set sources = [
    ref('stg_web__changed_events'), ref('stg_email__changed_events'), ref('stg_social__changed_interactions'),
    ref('stg_crm__changed_activities'), ref('stg_crm__changed_campaign_members'), ref('stg_survey__changed_nps_answers'),
] %}
{%- if is_full_build() %}
select
    touchpoint_key,
    0 as may_be_there
from {{ looked_at }}
where 1 = 0
{%- else %}
with changed_rows as (
    {%- for source in sources %}
    select
        _key_hash as touchpoint_key,
        coalesce(_is_repeated, true) as is_repeated
    from {{ source }}
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}
)

select
    touchpoint_key,
    max(case when is_repeated then 1 else 0 end) as may_be_there
from changed_rows
group by touchpoint_key

union all

select
    touchpoint_key,
    1 as may_be_there
from {{ looked_at }}
where touchpoint_key not in (select touchpoint_key from changed_rows)
{%- endif %}
