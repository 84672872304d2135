-- Counts by the cell in which an account stood when it responded, and by its cell of now: whoever wants one of them sums over the other.
with rules as (
    select * from {{ source('settings', 'campaign_rules') }}
),

campaigns as (
    select * from {{ ref('stg_crm__campaigns') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

members as (
    select * from {{ ref('int_campaign_members') }}
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

-- Accounts of a campaign, each as of its first response there; who did not respond as of the campaign's first day.
campaign_accounts as (
    select campaign_id, account_id from members
    union
    select campaign_id, account_id from campaign_deals
    union
    select campaign_id, account_id from campaign_meetings
),

moments as (
    select
        campaign_accounts.campaign_id,
        campaign_accounts.account_id,
        case
            when responses.responded_at is not null then cast(responses.responded_at as date)
            when campaigns.started_on <= refresh.as_of_date then campaigns.started_on
        end as stood_on
    from campaign_accounts
    inner join campaigns on campaign_accounts.campaign_id = campaigns.campaign_id
    cross join refresh
    left join responses
        on campaign_accounts.campaign_id = responses.campaign_id and campaign_accounts.account_id = responses.account_id
    where campaign_accounts.account_id is not null
),

-- The end of the day before, so that the response itself has not moved it.
stood as (
    select
        moments.campaign_id,
        moments.account_id,
        history.cell
    from moments
    inner join {{ ref('score_history') }} as history on moments.account_id = history.account_id
    where history.from_date < moments.stood_on and (history.until_date is null or history.until_date >= moments.stood_on)
),

history_start as (
    select min(case when is_first then record_date end) as record_date
    from {{ ref('int_score_days') }}
),

standings as (
    select
        moments.campaign_id,
        moments.account_id,
        case when history_start.record_date < moments.stood_on then coalesce(stood.cell, 'none') else 'unknown' end as cell,
        coalesce(accounts.cell, 'none') as cell_now
    from moments
    cross join history_start
    left join stood on moments.campaign_id = stood.campaign_id and moments.account_id = stood.account_id
    left join {{ ref('scored_accounts') }} as accounts on moments.account_id = accounts.account_id
),

counted_members as (
    select
        members.campaign_id,
        coalesce(standings.cell, 'none') as cell,
        coalesce(standings.cell_now, 'none') as cell_now,
        count(*) as member_count,
        count(distinct members.account_id) as account_count,
        cast(sum(case when members.is_responded then 1 else 0 end) as bigint) as response_count
    from members
    left join standings on members.campaign_id = standings.campaign_id and members.account_id = standings.account_id
    group by members.campaign_id, coalesce(standings.cell, 'none'), coalesce(standings.cell_now, 'none')
),

counted_deals as (
    select
        campaign_deals.campaign_id,
        coalesce(standings.cell, 'none') as cell,
        coalesce(standings.cell_now, 'none') as cell_now,
        count(*) as deal_count,
        cast(sum(campaign_deals.is_sourced) as bigint) as sourced_count,
        cast(sum(case when deals.status = 'won' then 1 else 0 end) as bigint) as won_count,
        cast(sum(case when deals.status = 'lost' then 1 else 0 end) as bigint) as lost_count,
        cast(sum(case when deals.status = 'won' then deals.amount end) as decimal(18, 2)) as won_amount
    from campaign_deals
    inner join {{ ref('int_deals') }} as deals on campaign_deals.opportunity_id = deals.opportunity_id
    left join standings
        on campaign_deals.campaign_id = standings.campaign_id and campaign_deals.account_id = standings.account_id
    group by campaign_deals.campaign_id, coalesce(standings.cell, 'none'), coalesce(standings.cell_now, 'none')
),

counted_meetings as (
    select
        campaign_meetings.campaign_id,
        coalesce(standings.cell, 'none') as cell,
        coalesce(standings.cell_now, 'none') as cell_now,
        count(*) as meeting_count
    from campaign_meetings
    left join standings
        on campaign_meetings.campaign_id = standings.campaign_id and campaign_meetings.account_id = standings.account_id
    group by campaign_meetings.campaign_id, coalesce(standings.cell, 'none'), coalesce(standings.cell_now, 'none')
),

-- A campaign of which nobody is known has one row without a cell, so that no cost is lost.
cells as (
    select campaign_id, cell, cell_now from counted_members
    union
    select campaign_id, cell, cell_now from counted_deals
    union
    select campaign_id, cell, cell_now from counted_meetings
    union
    select campaign_id, 'none' as cell, 'none' as cell_now from campaigns
),

joined as (
    select
        cells.campaign_id,
        cells.cell,
        cells.cell_now,
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
    left join counted_members
        on
            cells.campaign_id = counted_members.campaign_id
            and cells.cell = counted_members.cell
            and cells.cell_now = counted_members.cell_now
    left join counted_deals
        on
            cells.campaign_id = counted_deals.campaign_id
            and cells.cell = counted_deals.cell
            and cells.cell_now = counted_deals.cell_now
    left join counted_meetings
        on
            cells.campaign_id = counted_meetings.campaign_id
            and cells.cell = counted_meetings.cell
            and cells.cell_now = counted_meetings.cell_now
),

-- The cost is shared by the members, to the cent: each cell has what the members up to it cost less what those before it did.
shared as (
    select
        joined.*,
        sum(member_count) over (
            partition by campaign_id order by cell, cell_now rows between unbounded preceding and current row
        ) as members_so_far,
        sum(member_count) over (partition by campaign_id) as all_members
    from joined
)

select
    shared.campaign_id,
    shared.cell,
    shared.cell_now,
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
            when shared.all_members = 0 then case when shared.cell = 'none' and shared.cell_now = 'none' then campaigns.cost else 0 end
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
