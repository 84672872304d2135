-- A merged record points at the one that it was merged into, which may itself have been merged: sixteen steps are followed,
-- each join doubling those of the one before. A pointer to a record that was never landed is not followed; records that point
-- at each other in a circle stand for themselves.
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
{% for steps in [2, 4, 8, 16] %}
{%- set half = 'links' if steps == 2 else 'steps_' ~ (steps // 2) %}
steps_{{ steps }} as (
    select
        nearer.account_id,
        coalesce(farther.into_id, nearer.into_id) as into_id
    from {{ half }} as nearer
    left join {{ half }} as farther on nearer.into_id = farther.account_id
),
{% endfor %}
resolved as (
    select
        accounts.account_id,
        case
            when onward.account_id is null then coalesce(steps_16.into_id, accounts.account_id)
            else accounts.account_id
        end as surviving_account_id
    from accounts
    left join steps_16 on accounts.account_id = steps_16.account_id
    left join links as onward on steps_16.into_id = onward.account_id
)

select * from resolved
