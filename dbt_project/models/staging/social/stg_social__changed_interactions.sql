{{ changed_keys(source('raw', 'social__interactions'), 'occurred_at') }}
