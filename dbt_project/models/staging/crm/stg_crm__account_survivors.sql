{{ surviving_records(source('raw', 'crm__accounts'), ref('stg_crm__account_merges'), 'account') }}
