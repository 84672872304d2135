{{ changed_keys(source('raw', 'survey__nps_answers'), 'answered_at') }}
