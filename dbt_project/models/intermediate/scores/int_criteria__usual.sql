-- What an account usually has of each criterion. Means of points are rounded to whole ones; for adjustments nothing is usual.
with means as (
    select
        criterion,
        kind,
        floor(1.0 * sum(points) / count(*) + 0.5) as floor_mean
    from {{ ref('int_accounts__contributions') }}
    group by criterion, kind
)

select
    criterion,
    cast(sum(case when kind = 'adjustment' then 0 else floor_mean end) as bigint) as points,
    row_number() over (order by criterion) as criterion_no
from means
group by criterion
