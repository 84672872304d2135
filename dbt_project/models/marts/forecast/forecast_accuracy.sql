-- How right every forecast of a period that is over was, whoever made it. What came is read from the deals as they are now.
with snapshots as (
    select * from {{ ref('forecast_snapshots') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

won as (
    select
        coalesce(deals.owner_id, '(none)') as owner,
        coalesce(users.team, '(none)') as team,
        coalesce(deals.product, '(none)') as product,
        account_groups.region,
        account_groups.segment,
        cast(deals.closed_at as date) as closed_date,
        deals.amount
    from {{ ref('int_deals') }} as deals
    inner join {{ ref('int_accounts__groups') }} as account_groups
        on coalesce(deals.account_id, '(none)') = account_groups.account_id and account_groups.valid_to > {{ as_of_at() }}
    left join {{ ref('stg_crm__users') }} as users on deals.owner_id = users.user_id
    where deals.status = 'won' and deals.amount is not null
),

labelled as (
    select
        'all' as dimension,
        'all' as label,
        closed_date,
        amount
    from won
    union all
    select
        'owner' as dimension,
        owner as label,
        closed_date,
        amount
    from won
    union all
    select
        'team' as dimension,
        team as label,
        closed_date,
        amount
    from won
    union all
    select
        'product' as dimension,
        product as label,
        closed_date,
        amount
    from won
    union all
    select
        'region' as dimension,
        region as label,
        closed_date,
        amount
    from won
    union all
    select
        'segment' as dimension,
        segment as label,
        closed_date,
        amount
    from won
),

ended as (
    select snapshots.*
    from snapshots
    cross join refresh
    where snapshots.part = 'total' and snapshots.period_end <= refresh.as_of_date
),

periods as (
    select distinct
        period_start,
        period_end
    from ended
),

came as (
    select
        periods.period_start,
        periods.period_end,
        labelled.dimension,
        labelled.label,
        sum(labelled.amount) as amount
    from periods
    inner join labelled on labelled.closed_date >= periods.period_start and labelled.closed_date < periods.period_end
    group by periods.period_start, periods.period_end, labelled.dimension, labelled.label
)

select
    ended.forecast_id,
    ended.forecast_as_of_at,
    ended.method,
    ended.dimension,
    ended.label,
    ended.period_type,
    ended.period_start,
    ended.period_end,
    ended.period_label,
    cast({{ days_between('cast(ended.forecast_as_of_at as date)', 'ended.period_end') }} as bigint) as horizon_days,
    cast(coalesce(ended.p50, ended.mean_amount) as decimal(18, 2)) as forecast_amount,
    ended.p10,
    ended.p90,
    cast(coalesce(came.amount, 0) as decimal(18, 2)) as actual_amount,
    cast(coalesce(ended.p50, ended.mean_amount) - coalesce(came.amount, 0) as decimal(18, 2)) as error_amount,
    case when ended.p10 is not null then coalesce(came.amount, 0) >= ended.p10 and coalesce(came.amount, 0) <= ended.p90 end
        as is_within_80
from ended
left join came
    on
        ended.period_start = came.period_start
        and ended.period_end = came.period_end
        and ended.dimension = came.dimension
        and ended.label = came.label
