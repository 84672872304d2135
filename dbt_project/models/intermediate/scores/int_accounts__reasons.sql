-- The three strongest rows of points of each account in words. What nearly every account has is no reason: points are told apart from
-- what is usual.
with contributions as (
    select * from {{ ref('int_accounts__contributions') }}
),

usual as (
    select * from {{ ref('int_criteria__usual') }}
),

-- One whole number orders them: on the side of its points first, then by distance, then by the criterion's name.
reasons_weighed as (
    select
        contributions.account_id,
        contributions.points,
        contributions.criterion,
        contributions.band,
        case when contributions.points * (contributions.points - usual.points) > 0 then 1000000000000 else 0 end
        + abs(contributions.points - usual.points) * 10000 - usual.criterion_no as strength
    from contributions
    inner join usual on contributions.criterion = usual.criterion
    where contributions.points <> 0
),

reasons_ranked as (
    select
        reasons_weighed.*,
        row_number() over (partition by account_id order by strength desc nulls last) as strongest_first
    from reasons_weighed
),

reasons_told as (
    select
        account_id,
        strongest_first,
        case when points > 0 then '+' else '' end || cast(points as {{ dbt.type_string() }})
        || ' ' || replace(criterion, '_', ' ') || ': ' || band as reason
    from reasons_ranked
    where strongest_first <= 3
)

select
    account_id,
    max(case when strongest_first = 1 then reason end)
    || coalesce('; ' || max(case when strongest_first = 2 then reason end), '')
    || coalesce('; ' || max(case when strongest_first = 3 then reason end), '') as top_reasons
from reasons_told
group by account_id
