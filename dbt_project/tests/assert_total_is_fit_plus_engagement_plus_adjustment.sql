select account_id
from {{ ref('scored_accounts') }}
where
    (state = 'scored' and (total_points is null or total_points <> fit_points + engagement_points + adjustment_points))
    or (state <> 'scored' and total_points is not null)
