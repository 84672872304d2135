-- Where each account that names a parent stands now. Empty where behaviour does not roll up: nothing depends on it then.
with parents as (
    select *
    from {{ ref('int_account_parents') }}
    where valid_from <= {{ as_of_at() }} and valid_to > {{ as_of_at() }}
),

above as (
    select
        account_id,
        below_account_id,
        distance
    from {{ ref('int_account_descendants') }}
    where valid_from <= {{ as_of_at() }} and valid_to > {{ as_of_at() }}
),

levels as (
    select
        below_account_id,
        max(distance) as level_count
    from above
    group by below_account_id
)

select
    parents.account_id,
    accounts.account_name,
    parents.stated_parent_id,
    parents.link_state,
    parents.parent_account_id,
    highest.account_id as ultimate_parent_account_id,
    cast(coalesce(levels.level_count, 0) as bigint) as level_count
from parents
inner join {{ ref('int_accounts') }} as accounts on parents.account_id = accounts.account_id
left join levels on parents.account_id = levels.below_account_id
left join above as highest
    on levels.below_account_id = highest.below_account_id and levels.level_count = highest.distance
