{{ surviving_records(source('raw', 'crm__contacts'), ref('stg_crm__contact_merges'), 'contact') }}
