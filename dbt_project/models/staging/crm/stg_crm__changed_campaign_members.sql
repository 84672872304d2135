{{ changed_rows(source('raw', 'crm__campaign_members'), 'responded_at', versions_by='updated_at') }}
