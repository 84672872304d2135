{{ changed_keys(source('raw', 'email__events'), 'occurred_at') }}
