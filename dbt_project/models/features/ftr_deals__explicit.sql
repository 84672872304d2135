{{ explicit_features(ref('int_spine__closed_deals')) }}
