-- A deal's own source, or else that of its account.
with accounts as (
    select
        versions.account_id,
        lower(trim(versions.lead_source)) as lead_source
    from {{ ref('stg_crm__account_versions') }} as versions
    inner join {{ ref('int_accounts') }} as accounts on versions.account_id = accounts.account_id
    where versions.valid_from <= {{ as_of_at() }} and versions.valid_to > {{ as_of_at() }}
),

counted_accounts as (
    select
        coalesce(nullif(lead_source, ''), 'unknown') as lead_source,
        count(*) as account_count
    from accounts
    group by coalesce(nullif(lead_source, ''), 'unknown')
),

deals as (
    select
        coalesce(nullif(lower(trim(deals.lead_source)), ''), nullif(accounts.lead_source, ''), 'unknown') as lead_source,
        deals.status,
        deals.amount
    from {{ ref('int_deals') }} as deals
    left join accounts on deals.account_id = accounts.account_id
),

counted_deals as (
    select
        lead_source,
        count(*) as deal_count,
        cast(sum(case when status = 'won' then 1 else 0 end) as bigint) as won_count,
        cast(sum(case when status = 'lost' then 1 else 0 end) as bigint) as lost_count,
        cast(sum(case when status = 'won' then amount end) as decimal(18, 2)) as won_amount
    from deals
    group by lead_source
),

costs as (
    select
        assigned.lead_source,
        cast(sum(campaigns.cost) as decimal(18, 2)) as cost_amount
    from {{ ref('stg_crm__campaigns') }} as campaigns
    inner join {{ source('settings', 'campaign_sources') }} as assigned
        on lower(trim(campaigns.campaign_type)) = assigned.campaign_type
    cross join {{ source('settings', 'refresh') }} as refresh
    where campaigns.cost is not null and (campaigns.started_on is null or campaigns.started_on <= refresh.as_of_date)
    group by assigned.lead_source
),

sources as (
    select lead_source from counted_accounts
    union
    select lead_source from counted_deals
    union
    select lead_source from costs
),

joined as (
    select
        sources.lead_source,
        coalesce(counted_accounts.account_count, 0) as account_count,
        coalesce(counted_deals.deal_count, 0) as deal_count,
        coalesce(counted_deals.won_count, 0) as won_count,
        coalesce(counted_deals.lost_count, 0) as lost_count,
        coalesce(counted_deals.won_amount, 0) as won_amount,
        costs.cost_amount
    from sources
    left join counted_accounts on sources.lead_source = counted_accounts.lead_source
    left join counted_deals on sources.lead_source = counted_deals.lead_source
    left join costs on sources.lead_source = costs.lead_source
)

select
    lead_source,
    account_count,
    deal_count,
    won_count,
    lost_count,
    cast(1.0 * won_count / nullif(won_count + lost_count, 0) as double) as win_rate,
    cast({{ wilson('won_count', '(won_count + lost_count)', -1) }} as double) as win_rate_low,
    cast({{ wilson('won_count', '(won_count + lost_count)', 1) }} as double) as win_rate_high,
    cast(won_amount as decimal(18, 2)) as won_amount,
    cost_amount,
    cast(cost_amount / nullif(won_count, 0) as decimal(18, 2)) as cost_per_win_amount
from joined
