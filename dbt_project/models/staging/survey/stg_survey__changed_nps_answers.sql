{{ changed_rows(source('raw', 'survey__nps_answers'), 'answered_at') }}
