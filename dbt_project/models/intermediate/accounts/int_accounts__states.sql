-- Exactly one state per account. The first that applies counts: a person's word before the data's.
with accounts as (
    select * from {{ ref('int_accounts') }}
),

state_rules as (
    select * from {{ source('settings', 'refresh') }}
),

customer_stages as (
    select value from {{ source('settings', 'lifecycle_states') }}
    where state = 'customer'
),

disqualified_stages as (
    select value from {{ source('settings', 'lifecycle_states') }}
    where state = 'disqualified'
),

known as (
    select account_key from {{ ref('int_account_touches') }}

    union

    -- Where behaviour rolls up, that of an account below is known of the account.
    select {{ id_key('descendants.account_id') }} as account_key
    from {{ ref('int_account_descendants') }} as descendants
    inner join {{ ref('int_account_touches') }} as touches on {{ id_key('descendants.below_account_id') }} = touches.account_key
    where descendants.valid_to > {{ as_of_at() }}

    union

    select {{ id_key('features.spine_id') }} as account_key
    from {{ ref('ftr_accounts__explicit') }} as features
    inner join {{ source('settings', 'criteria') }} as criteria on features.criterion_key = criteria.criterion_key
    -- Counts of contacts are zero, not missing, where there are none: they alone tell nothing of the account.
    where
        features.value_text is not null
        and criteria.attribute not in (
            'contact_count', 'decision_maker_count'
            {%- for column in ['engaged_person_count', 'engaged_function_count', 'buying_group_pct'] %},
            '{{ column }}', '{{ rolled_up(column) }}'
            {%- endfor %}
        )
)

select
    accounts.account_id,
    case
        when accounts.is_suppressed then 'suppressed'
        when accounts.is_flagged_disqualified or disqualified_stages.value is not null then 'disqualified'
        when
            (state_rules.is_customer_by_flag and accounts.is_flagged_customer)
            or (state_rules.is_customer_by_won_deal and accounts.won_deal_count > 0)
            or customer_stages.value is not null
            then 'customer'
        when known.account_key is null then 'no data'
        else 'scored'
    end as state,
    case
        when accounts.is_suppressed then 'the CRM says that it must not be contacted'
        when accounts.is_flagged_disqualified then 'sales has ruled it out'
        when disqualified_stages.value is not null then 'lifecycle stage ' || accounts.lifecycle_stage
        when state_rules.is_customer_by_flag and accounts.is_flagged_customer then 'the CRM says that it is a customer'
        when state_rules.is_customer_by_won_deal and accounts.won_deal_count > 0
            then cast(accounts.won_deal_count as {{ dbt.type_string() }}) || ' won deals'
        when customer_stages.value is not null then 'lifecycle stage ' || accounts.lifecycle_stage
        when known.account_key is null then 'no criterion has a value and no touchpoint is known'
        else 'has data and is open to sell to'
    end as state_reason
from accounts
cross join state_rules
left join customer_stages on lower(trim(accounts.lifecycle_stage)) = customer_stages.value
left join disqualified_stages on lower(trim(accounts.lifecycle_stage)) = disqualified_stages.value
left join known on {{ id_key('accounts.account_id') }} = known.account_key
