{{ merged_records(source('raw', 'crm__contacts'), 'contact') }}
