{{ merged_records(source('raw', 'crm__accounts'), 'account') }}
