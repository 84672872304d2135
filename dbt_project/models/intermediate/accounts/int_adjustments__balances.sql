-- The balance of an account's adjustments: the last "set" and everything added or taken away after it.
with adjustments as (
    select
        adjustments.adjustment_id,
        survivors.surviving_account_id as account_id,
        adjustments.operation,
        adjustments.points,
        adjustments.occurred_at
    from {{ ref('stg_scoring__adjustments') }} as adjustments
    inner join {{ ref('stg_crm__account_survivors') }} as survivors on adjustments.account_id = survivors.account_id
    where coalesce(adjustments.expires_at, {{ end_of_time() }}) > {{ as_of_at() }}
),

numbered as (
    select
        adjustments.*,
        row_number() over (partition by account_id order by occurred_at, adjustment_id) as operation_no
    from adjustments
),

last_set as (
    select
        account_id,
        max(operation_no) as operation_no
    from numbered
    where operation = 'set'
    group by account_id
)

select
    numbered.account_id,
    cast(
        sum(case when numbered.operation = 'subtract' then -numbered.points else numbered.points end) as bigint
    ) as points,
    count(*) as operation_count
from numbered
left join last_set on numbered.account_id = last_set.account_id
where last_set.operation_no is null or numbered.operation_no >= last_set.operation_no
group by numbered.account_id
