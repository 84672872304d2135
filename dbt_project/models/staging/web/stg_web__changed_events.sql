{{ changed_keys(source('raw', 'web__events'), 'occurred_at') }}
