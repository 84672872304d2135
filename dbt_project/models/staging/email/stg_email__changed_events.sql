{{ changed_rows(source('raw', 'email__events'), 'occurred_at') }}
