-- Every row of points of a scored account: its total is their sum.
with points as (
    select
        scored.spine_id as account_id,
        scored.kind,
        scored.segment,
        scored.criterion,
        scored.value,
        cast(scored.band_no as integer) as band_no,
        scored.band,
        scored.points,
        scored.is_pinned
    from {{ ref('int_accounts__points') }} as scored
    inner join {{ ref('int_accounts__states') }} as states on scored.spine_id = states.account_id
    where states.state = 'scored'
),

adjustments as (
    select
        balances.account_id,
        'adjustment' as kind,
        '' as segment,
        'adjustments' as criterion,
        cast(balances.operation_count as {{ dbt.type_string() }}) as value,
        cast(null as integer) as band_no,
        'balance' as band,
        balances.points,
        false as is_pinned
    from {{ ref('int_adjustments__balances') }} as balances
    inner join {{ ref('int_accounts__states') }} as states on balances.account_id = states.account_id
    where states.state = 'scored' and balances.subject_kind = 'account'
)

select * from points
union all
select * from adjustments
