{{ landed_places(source('raw', 'email__events')) }}
