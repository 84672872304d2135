{{ implicit_features(ref('int_spine__account_months')) }}
