with rules as (
    select * from {{ source('settings', 'campaign_rules') }}
),

campaigns as (
    select * from {{ ref('stg_crm__campaigns') }}
),

members as (
    select
        members.*,
        coalesce(accounts.cell, 'none') as cell
    from {{ ref('int_campaign_members') }} as members
    left join {{ ref('scored_accounts') }} as accounts on members.account_id = accounts.account_id
),

counted_members as (
    select
        campaign_id,
        cell,
        count(*) as member_count,
        count(distinct account_id) as account_count,
        cast(sum(case when is_responded then 1 else 0 end) as bigint) as response_count
    from members
    group by campaign_id, cell
),

responses as (
    select
        campaign_id,
        account_id,
        min(responded_at) as responded_at
    from members
    where is_responded and account_id is not null
    group by campaign_id, account_id
),

-- A deal may have several campaigns behind it, and counts in each.
influenced as (
    select
        deals.opportunity_id,
        deals.campaign_id,
        deals.account_id,
        1 as is_sourced
    from {{ ref('int_deals') }} as deals
    where deals.campaign_id is not null and deals.account_id is not null

    union all

    select
        deals.opportunity_id,
        responses.campaign_id,
        deals.account_id,
        0 as is_sourced
    from {{ ref('int_deals') }} as deals
    inner join responses on deals.account_id = responses.account_id
    cross join rules
    where
        deals.opened_at >= responses.responded_at
        and deals.opened_at <= {{ dbt.dateadd('day', 'rules.influence_days', 'responses.responded_at') }}
),

campaign_deals as (
    select
        influenced.campaign_id,
        influenced.opportunity_id,
        influenced.account_id,
        max(influenced.is_sourced) as is_sourced
    from influenced
    group by influenced.campaign_id, influenced.opportunity_id, influenced.account_id
),

counted_deals as (
    select
        campaign_deals.campaign_id,
        coalesce(accounts.cell, 'none') as cell,
        count(*) as deal_count,
        cast(sum(campaign_deals.is_sourced) as bigint) as sourced_count,
        cast(sum(case when deals.status = 'won' then 1 else 0 end) as bigint) as won_count,
        cast(sum(case when deals.status = 'lost' then 1 else 0 end) as bigint) as lost_count,
        cast(sum(case when deals.status = 'won' then deals.amount end) as decimal(18, 2)) as won_amount
    from campaign_deals
    inner join {{ ref('int_deals') }} as deals on campaign_deals.opportunity_id = deals.opportunity_id
    left join {{ ref('scored_accounts') }} as accounts on campaign_deals.account_id = accounts.account_id
    group by campaign_deals.campaign_id, coalesce(accounts.cell, 'none')
),

meetings as (
    select
        survivors.surviving_account_id as account_id,
        activities.activity_id,
        activities.campaign_id,
        activities.occurred_at
    from {{ ref('stg_crm__activities') }} as activities
    inner join {{ ref('stg_crm__account_survivors') }} as survivors on activities.account_id = survivors.account_id
    where
        activities.activity_type = 'meeting'
        and activities.occurred_at <= {{ as_of_at() }}
        and not coalesce(activities.is_deleted, false)
),

campaign_meetings as (
    select
        campaign_id,
        activity_id,
        account_id
    from meetings
    where campaign_id is not null

    union

    select
        responses.campaign_id,
        meetings.activity_id,
        meetings.account_id
    from meetings
    inner join responses on meetings.account_id = responses.account_id
    cross join rules
    where
        meetings.occurred_at >= responses.responded_at
        and meetings.occurred_at <= {{ dbt.dateadd('day', 'rules.influence_days', 'responses.responded_at') }}
),

counted_meetings as (
    select
        campaign_meetings.campaign_id,
        coalesce(accounts.cell, 'none') as cell,
        count(*) as meeting_count
    from campaign_meetings
    left join {{ ref('scored_accounts') }} as accounts on campaign_meetings.account_id = accounts.account_id
    group by campaign_meetings.campaign_id, coalesce(accounts.cell, 'none')
),

-- A campaign of which nobody is known has one row without a cell, so that no cost is lost.
cells as (
    select campaign_id, cell from counted_members
    union
    select campaign_id, cell from counted_deals
    union
    select campaign_id, cell from counted_meetings
    union
    select campaign_id, 'none' as cell from campaigns
),

joined as (
    select
        cells.campaign_id,
        cells.cell,
        coalesce(counted_members.member_count, 0) as member_count,
        coalesce(counted_members.account_count, 0) as account_count,
        coalesce(counted_members.response_count, 0) as response_count,
        coalesce(counted_meetings.meeting_count, 0) as meeting_count,
        coalesce(counted_deals.deal_count, 0) as deal_count,
        coalesce(counted_deals.sourced_count, 0) as sourced_count,
        coalesce(counted_deals.won_count, 0) as won_count,
        coalesce(counted_deals.lost_count, 0) as lost_count,
        counted_deals.won_amount
    from cells
    left join counted_members on cells.campaign_id = counted_members.campaign_id and cells.cell = counted_members.cell
    left join counted_deals on cells.campaign_id = counted_deals.campaign_id and cells.cell = counted_deals.cell
    left join counted_meetings
        on cells.campaign_id = counted_meetings.campaign_id and cells.cell = counted_meetings.cell
),

-- The cost is shared by the members, to the cent: each cell has what the members up to it cost less what those before it did.
shared as (
    select
        joined.*,
        sum(member_count) over (
            partition by campaign_id order by cell rows between unbounded preceding and current row
        ) as members_so_far,
        sum(member_count) over (partition by campaign_id) as all_members
    from joined
)

select
    shared.campaign_id,
    shared.cell,
    campaigns.campaign_name,
    campaigns.campaign_type,
    campaigns.started_on as started_date,
    shared.member_count,
    shared.account_count,
    shared.response_count,
    cast(1.0 * shared.response_count / nullif(shared.member_count, 0) as double) as response_rate,
    shared.meeting_count,
    shared.deal_count,
    shared.sourced_count,
    shared.won_count,
    shared.lost_count,
    cast(1.0 * shared.won_count / nullif(shared.won_count + shared.lost_count, 0) as double) as win_rate,
    coalesce(shared.won_amount, 0) as won_amount,
    cast(
        case
            when shared.all_members = 0 then case when shared.cell = 'none' then campaigns.cost else 0 end
            else
                floor(campaigns.cost * shared.members_so_far / shared.all_members * 100 + 0.5) / 100
                - floor(
                    campaigns.cost * (shared.members_so_far - shared.member_count) / shared.all_members * 100 + 0.5
                ) / 100
        end as decimal(18, 2)
    ) as cost_amount,
    card.scorecard_version
from shared
inner join campaigns on shared.campaign_id = campaigns.campaign_id
cross join {{ source('settings', 'scorecard') }} as card
where shared.member_count + shared.deal_count + shared.meeting_count > 0 or shared.all_members = 0
