{{ explicit_features(ref('int_spine__accounts')) }}
