{{ implicit_features(ref('int_spine__contacts'), per_contact=true) }}
