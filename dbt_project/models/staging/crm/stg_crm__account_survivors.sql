-- A merged record points at the one that it was merged into, which may itself have been merged: four steps are followed.
-- A chain that runs in a circle, or to a record that was never landed, ends at its last known record.
with accounts as (
    {{ records_as_of(source('raw', 'crm__accounts'), ['account_id']) }}
),

links as (
    select
        merged.account_id,
        target.account_id as into_id
    from accounts as merged
    inner join accounts as target on merged.merged_into_account_id = target.account_id
    where merged.account_id <> target.account_id
),

resolved as (
    select
        accounts.account_id,
        coalesce(step_4.into_id, step_3.into_id, step_2.into_id, step_1.into_id, accounts.account_id) as surviving_account_id
    from accounts
    left join links as step_1 on accounts.account_id = step_1.account_id
    left join links as step_2 on step_1.into_id = step_2.account_id
    left join links as step_3 on step_2.into_id = step_3.account_id
    left join links as step_4 on step_3.into_id = step_4.account_id
)

select * from resolved
