-- What landed, or whose moment came, since the last build, as it is now: made from the changed rows alone.
{{ landed_touchpoints({
    'web': '(' ~ events_as_of(ref('stg_web__changed_events'), 'event_id', 'occurred_at') ~ ')',
    'email': '(' ~ events_as_of(ref('stg_email__changed_events'), 'event_id', 'occurred_at') ~ ')',
    'social': '(' ~ events_as_of(ref('stg_social__changed_interactions'), 'interaction_id', 'occurred_at') ~ ')',
    'activities': '(' ~ records_as_of(ref('stg_crm__changed_activities'), ['activity_id']) ~ ')',
    'campaign_members': '(' ~ records_as_of(ref('stg_crm__changed_campaign_members'), ['campaign_id', 'contact_id']) ~ ')',
    'nps_answers': '(' ~ events_as_of(ref('stg_survey__changed_nps_answers'), 'answer_id', 'answered_at') ~ ')',
}) }}
