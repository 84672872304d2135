-- A person is engaged from the day after a touchpoint was known until so many days after it happened. Days count as a whole and only
-- once they are over, so that a deal opened on a day sees nothing that came later on that day. Computed only where a criterion asks.
with asked as (
    select distinct is_rolled_up
    from {{ source('settings', 'criteria') }}
    where attribute in (
        {%- for column in ['engaged_person_count', 'engaged_function_count', 'buying_group_pct'] %}
        '{{ column }}', '{{ rolled_up(column) }}'{{ ',' if not loop.last }}
        {%- endfor %}
    )
),

-- Where none asks there is nothing to join with, and nothing is even read.
engaging as (
    select signal
    from {{ source('settings', 'engaging_signals') }}
    where exists (select 1 from asked)
),

-- Deleted ones, too: their deals remember who was engaged.
accounts as (
    select distinct
        surviving_account_id as account_id,
        {{ id_key('surviving_account_id') }} as account_key
    from {{ ref('stg_crm__account_survivors') }}
    where exists (select 1 from asked)
)

select
    accounts.account_id,
    daily.account_key,
    daily.contact_key,
    cast({{ dbt.dateadd('day', 1, 'daily.known_date') }} as timestamp) as from_at,
    max(cast({{ dbt.dateadd('day', 'rules.engaged_days + 1', 'daily.event_date') }} as timestamp)) as until_at
from {{ ref('int_touchpoints__daily') }} as daily
cross join {{ source('settings', 'people_rules') }} as rules
inner join engaging on daily.signal = engaging.signal
inner join accounts on daily.account_key = accounts.account_key
where daily.contact_key is not null
group by accounts.account_id, daily.account_key, daily.contact_key, daily.known_date
