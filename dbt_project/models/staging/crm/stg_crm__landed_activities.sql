{{ landed_places(source('raw', 'crm__activities')) }}
