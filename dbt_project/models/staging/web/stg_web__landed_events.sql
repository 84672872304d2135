{{ landed_places(source('raw', 'web__events')) }}
