-- A domain finds an account only where it belongs to one account alone and is not a public mail domain.
with accounts as (
    select
        account_id,
        domain
    from {{ ref('int_account_domain_claims') }}
),

public_domains as (
    select distinct domain from {{ source('settings', 'public_email_domains') }}
),

single_owner as (
    select
        accounts.domain,
        min(accounts.account_id) as account_id
    from accounts
    left join public_domains on accounts.domain = public_domains.domain
    where public_domains.domain is null
    group by accounts.domain
    having count(distinct accounts.account_id) = 1
)

select * from single_owner
