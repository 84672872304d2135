-- Counts by the cell in which an account stood when it responded, and by its cell of now: whoever wants one of them sums over the other.
{%- set counts = [
    'member_count', 'response_count', 'meeting_count', 'deal_count', 'sourced_count', 'won_count', 'lost_count', 'won_amount',
] %}
with campaigns as (
    select * from {{ ref('stg_crm__campaigns') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

-- Each account of a campaign as of its first response there; who did not respond as of the campaign's first day.
moments as (
    select
        campaign_accounts.*,
        case
            when campaign_accounts.responded_at is not null then cast(campaign_accounts.responded_at as date)
            when campaigns.started_on <= refresh.as_of_date then campaigns.started_on
        end as stood_on
    from {{ ref('int_campaign_accounts') }} as campaign_accounts
    inner join campaigns on campaign_accounts.campaign_id = campaigns.campaign_id
    cross join refresh
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
        moments.*,
        case when history_start.record_date < moments.stood_on then coalesce(stood.cell, 'none') else 'unknown' end as cell,
        coalesce(accounts.cell, 'none') as cell_now
    from moments
    cross join history_start
    left join stood on moments.campaign_id = stood.campaign_id and moments.account_id = stood.account_id
    left join {{ ref('scored_accounts') }} as accounts on moments.account_id = accounts.account_id
),

-- People of whom no account is known have no cell; nor has a campaign of which nobody is known, so that no cost is lost.
counted as (
    select
        campaign_id,
        cell,
        cell_now,
        case when member_count > 0 then 1 else 0 end as account_count,
        {{ counts | join(',\n        ') }}
    from standings

    union all

    select
        campaign_id,
        'none' as cell,
        'none' as cell_now,
        0 as account_count,
        1 as member_count,
        case when is_responded then 1 else 0 end as response_count,
        {%- for count in counts[2:] %}
        0 as {{ count }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref('int_campaign_members') }}
    where account_id is null

    union all

    select
        campaign_id,
        'none' as cell,
        'none' as cell_now,
        0 as account_count,
        {%- for count in counts %}
        0 as {{ count }}{{ ',' if not loop.last }}
        {%- endfor %}
    from campaigns
),

joined as (
    select
        campaign_id,
        cell,
        cell_now,
        cast(sum(account_count) as bigint) as account_count,
        {%- for count in counts[:-1] %}
        cast(sum({{ count }}) as bigint) as {{ count }},
        {%- endfor %}
        cast(sum(won_amount) as decimal(18, 2)) as won_amount
    from counted
    group by campaign_id, cell, cell_now
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
    shared.won_amount,
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
