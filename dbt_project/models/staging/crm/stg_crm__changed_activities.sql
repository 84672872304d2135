{{ changed_rows(source('raw', 'crm__activities'), 'occurred_at', versions_by='updated_at') }}
