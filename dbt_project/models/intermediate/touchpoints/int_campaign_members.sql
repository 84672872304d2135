-- Members of campaigns as people and accounts of today. Two records of one person in a campaign, merged since, are one member.
with members as (
    select
        members.campaign_id,
        survivors.surviving_contact_id as contact_id,
        max(
            case
                when members.member_status <> 'invited' and members.responded_at <= {{ as_of_at() }} then 1
                else 0
            end
        ) as responded,
        min(
            case
                when members.member_status <> 'invited' and members.responded_at <= {{ as_of_at() }}
                    then members.responded_at
            end
        ) as responded_at
    from {{ ref('stg_crm__campaign_members') }} as members
    inner join {{ ref('stg_crm__contact_survivors') }} as survivors on members.contact_id = survivors.contact_id
    group by members.campaign_id, survivors.surviving_contact_id
)

select
    members.campaign_id,
    members.contact_id,
    spine.account_id,
    members.responded = 1 as is_responded,
    members.responded_at
from members
left join {{ ref('int_spine__contacts') }} as spine on members.contact_id = spine.contact_id
