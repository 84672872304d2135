{{ landed_places(source('raw', 'survey__nps_answers')) }}
