-- What a campaign did with each account: its members there, and the deals and meetings in which it had a part.
with rules as (
    select * from {{ source('settings', 'campaign_rules') }}
),

members as (
    select * from {{ ref('int_campaign_members') }}
    where account_id is not null
),

deals as (
    select * from {{ ref('int_deals') }}
    where account_id is not null
),

responses as (
    select
        campaign_id,
        account_id,
        min(responded_at) as responded_at
    from members
    where is_responded
    group by campaign_id, account_id
),

-- A deal may have several campaigns behind it, and counts in each.
influenced as (
    select
        opportunity_id,
        campaign_id,
        account_id,
        1 as is_sourced
    from deals
    where campaign_id is not null

    union all

    select
        deals.opportunity_id,
        responses.campaign_id,
        deals.account_id,
        0 as is_sourced
    from deals
    inner join responses on deals.account_id = responses.account_id
    cross join rules
    where
        deals.opened_at >= responses.responded_at
        and deals.opened_at <= {{ dbt.dateadd('day', 'rules.influence_days', 'responses.responded_at') }}
),

campaign_deals as (
    select
        campaign_id,
        opportunity_id,
        max(is_sourced) as is_sourced
    from influenced
    group by campaign_id, opportunity_id
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

{%- set counts = ['member_count', 'response_count', 'meeting_count', 'deal_count', 'sourced_count', 'won_count', 'lost_count'] %}

counted as (
    select
        campaign_id,
        account_id,
        case when is_responded then responded_at end as responded_at,
        1 as member_count,
        case when is_responded then 1 else 0 end as response_count,
        {%- for count in counts[2:] %}
        0 as {{ count }},
        {%- endfor %}
        cast(0 as decimal(18, 2)) as won_amount
    from members

    union all

    select
        campaign_id,
        account_id,
        null as responded_at,
        0 as member_count,
        0 as response_count,
        1 as meeting_count,
        {%- for count in counts[3:] %}
        0 as {{ count }},
        {%- endfor %}
        cast(0 as decimal(18, 2)) as won_amount
    from campaign_meetings

    union all

    select
        campaign_deals.campaign_id,
        deals.account_id,
        null as responded_at,
        0 as member_count,
        0 as response_count,
        0 as meeting_count,
        1 as deal_count,
        campaign_deals.is_sourced as sourced_count,
        case when deals.status = 'won' then 1 else 0 end as won_count,
        case when deals.status = 'lost' then 1 else 0 end as lost_count,
        cast(case when deals.status = 'won' then coalesce(deals.amount, 0) else 0 end as decimal(18, 2)) as won_amount
    from campaign_deals
    inner join deals on campaign_deals.opportunity_id = deals.opportunity_id
)

select
    campaign_id,
    account_id,
    min(responded_at) as responded_at,
    {%- for count in counts %}
    cast(sum({{ count }}) as bigint) as {{ count }},
    {%- endfor %}
    cast(sum(won_amount) as decimal(18, 2)) as won_amount
from counted
group by campaign_id, account_id
