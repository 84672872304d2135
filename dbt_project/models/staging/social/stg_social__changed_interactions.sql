{{ changed_rows(source('raw', 'social__interactions'), 'occurred_at') }}
