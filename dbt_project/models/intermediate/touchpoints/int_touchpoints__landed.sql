{{ landed_touchpoints({
    'web': ref('stg_web__events'),
    'email': ref('stg_email__events'),
    'social': ref('stg_social__interactions'),
    'activities': ref('stg_crm__activities'),
    'campaign_members': ref('stg_crm__campaign_members'),
    'nps_answers': ref('stg_survey__nps_answers'),
}) }}
