with versions as (
    select * from {{ ref('stg_crm__account_versions') }}
),

survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
),

won_deals as (
    select
        account_id,
        count(*) as won_deal_count
    from {{ ref('int_deals') }}
    where status = 'won' and account_id is not null
    group by account_id
),

current_accounts as (
    select
        versions.account_id,
        coalesce(versions.account_name, versions.account_id) as account_name,
        lower(versions.domain) as domain,
        versions.owner_id,
        versions.lifecycle_stage,
        coalesce(versions.is_customer, false) as is_flagged_customer,
        coalesce(versions.is_suppressed, false) as is_suppressed,
        coalesce(versions.is_disqualified, false) as is_flagged_disqualified,
        versions.created_at
    from versions
    inner join survivors on versions.account_id = survivors.account_id
    where
        survivors.surviving_account_id = versions.account_id
        and versions.valid_from <= {{ as_of_at() }}
        and versions.valid_to > {{ as_of_at() }}
        and not coalesce(versions.is_deleted, false)
        and coalesce(versions.created_at, {{ beginning_of_time() }}) <= {{ as_of_at() }}
)

select
    current_accounts.*,
    {{ id_key('current_accounts.account_id') }} as account_key,
    coalesce(won_deals.won_deal_count, 0) as won_deal_count,
    -- The digest of name and key draws the accounts: always the same ones, and others under another name.
    holdout.share_pct > 0
    and {{ dbt.hash("holdout.holdout_name || ' ' || current_accounts.account_id") }} < holdout.hash_below as is_holdout
from current_accounts
cross join {{ source('settings', 'holdout') }} as holdout
left join won_deals on current_accounts.account_id = won_deals.account_id
