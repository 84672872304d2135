-- What landed, or whose moment came, since the last build, as it is now: made from the changed rows alone.
{%- set changed = {
    'web': ref('stg_web__changed_events'),
    'email': ref('stg_email__changed_events'),
    'social': ref('stg_social__changed_interactions'),
    'activities': ref('stg_crm__changed_activities'),
    'campaign_members': ref('stg_crm__changed_campaign_members'),
    'nps_answers': ref('stg_survey__changed_nps_answers'),
} %}
{%- set parts = {} %}
{%- for source, relation in changed.items() %}
{%- do parts.update({source: '(' ~ touchpoint_rows_as_of(source, relation) ~ ')'}) %}
{%- endfor %}
{{ landed_touchpoints(parts) }}
