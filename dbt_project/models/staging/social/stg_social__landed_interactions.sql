{{ landed_places(source('raw', 'social__interactions')) }}
