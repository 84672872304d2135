-- What a deal brings of which nothing is known.
select cast(avg(amount) as decimal(18, 2)) as mean_amount
from {{ ref('int_deals') }}
where status = 'won' and amount is not null
