{{ explicit_features(ref('int_spine__deals')) }}
