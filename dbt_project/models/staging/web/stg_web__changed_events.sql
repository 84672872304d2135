{{ changed_rows(source('raw', 'web__events'), 'occurred_at') }}
