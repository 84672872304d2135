-- Which accounts were below which, when, and how far: what is known of their behaviour counts for the account as well. An account has
-- one parent at a time and circles are broken, so that at any moment one is below another in one way at most.
with links as (
    select
        parent_account_id as account_id,
        account_id as below_account_id,
        valid_from,
        valid_to
    from {{ ref('int_account_parents') }}
    where link_state = 'linked'
),

{{ sixteen_levels('links', 'way') }}

select * from way_16
