with since as (
    select
        segment,
        account_id,
        max(changed_at) as member_since_at
    from {{ ref('segment_changes') }}
    where change = 'entered'
    group by segment, account_id
)

select
    members.segment,
    members.account_id,
    scored.account_name,
    scored.owner_id,
    members.rank_no,
    scored.state,
    scored.cell,
    scored.next_action,
    scored.total_points,
    scored.win_probability,
    scored.expected_value,
    since.member_since_at,
    scored.as_of_at
from {{ ref('int_segments__members') }} as members
inner join {{ ref('scored_accounts') }} as scored on members.account_id = scored.account_id
left join since on members.segment = since.segment and members.account_id = since.account_id
