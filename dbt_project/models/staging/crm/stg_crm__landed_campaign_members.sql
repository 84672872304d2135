{{ landed_places(source('raw', 'crm__campaign_members')) }}
