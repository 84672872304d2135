-- Kept from build to build: only touchpoints that may have changed are made anew (int_touchpoints__looked_at), the others stay; what
-- differs then is told to int_touchpoints__moved. What a bot did is here, too, with what gave it away.
{%- set landed = ref('int_touchpoints__landed') %}
{%- set looked_at = ref('int_touchpoints__looked_at') %}
{%- set changed = ref('int_touchpoints__changed') %}
with landed as (
    select * from {{ landed if is_full_build() else looked_at }}
),

contacts as (
    select * from {{ ref('stg_crm__contact_survivors') }}
    {{ only_of('contact_id', 'select contact_id from landed') }}
),

emails as (
    select * from {{ ref('int_contact_emails') }}
    {{ only_of('email', 'select email from landed') }}
),

visitors as (
    select * from {{ ref('int_visitor_identities') }}
    {{ only_of('visitor_id', 'select visitor_id from landed') }}
),

account_survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
    {{ only_of('account_id', 'select account_id from landed') }}
),

{%- if not is_full_build() %}

people as (
    select contact_id from contacts
    union all
    select contact_id from emails
    union all
    select contact_id from visitors
),
{%- endif %}

survivors as (
    select * from {{ ref('stg_crm__contact_survivors') }}
    {{ only_of('contact_id', 'select contact_id from people') }}
),

links as (
    select * from {{ ref('int_contact_accounts') }}
    {{ only_of('landed_contact_id', 'select contact_id from people') }}
),

bots as (
    select
        source,
        touchpoint_key,
        min(reason) as reason
    from {{ ref('int_bots') }}
    {%- if not is_full_build() %}
    where touchpoint_key in (select touchpoint_key from {{ changed }})
    {%- endif %}
    group by source, touchpoint_key
),

identified as (
    select
        landed.source,
        landed.touchpoint_key,
        landed.touchpoint_id,
        landed.signal,
        landed.occurred_at,
        landed.visitor_id,
        landed.campaign_id,
        landed.account_id as stated_account_id,
        coalesce(contacts.contact_id, emails.contact_id, visitors.contact_id) as landed_contact_id,
        case
            when contacts.contact_id is null and emails.contact_id is null then visitors.identified_at
        end as identified_at
    from landed
    left join contacts on landed.contact_id = contacts.contact_id
    left join emails on landed.email = emails.email
    left join visitors
        on
            landed.visitor_id = visitors.visitor_id
            and landed.occurred_at >= visitors.valid_from
            and landed.occurred_at < visitors.valid_to
),

matched as (
    select
        identified.source,
        identified.touchpoint_key,
        identified.touchpoint_id,
        identified.signal,
        identified.occurred_at,
        identified.visitor_id,
        identified.campaign_id,
        coalesce(survivors.surviving_contact_id, identified.landed_contact_id) as contact_id,
        coalesce(account_survivors.surviving_account_id, links.account_id) as account_id,
        case
            when account_survivors.surviving_account_id is not null then identified.occurred_at
            else greatest(
                identified.occurred_at,
                coalesce(identified.identified_at, identified.occurred_at),
                coalesce(links.known_at, identified.occurred_at)
            )
        end as known_at
    from identified
    left join account_survivors on identified.stated_account_id = account_survivors.account_id
    left join links
        on
            identified.landed_contact_id = links.landed_contact_id
            and identified.occurred_at >= links.valid_from
            and identified.occurred_at < links.valid_to
    left join survivors on identified.landed_contact_id = survivors.contact_id
)

select
    matched.source,
    matched.touchpoint_key,
    matched.touchpoint_id,
    signal,
    occurred_at,
    cast(occurred_at as date) as event_date,
    known_at,
    cast(known_at as date) as known_date,
    visitor_id,
    contact_id,
    account_id,
    campaign_id,
    case
        when account_id is not null then 'matched'
        when contact_id is not null then 'no_account'
        else 'no_person'
    end as match_status,
    bots.reason as bot_reason
from matched
left join bots on matched.source = bots.source and matched.touchpoint_key = bots.touchpoint_key
-- What became known only after the as-of moment does not exist yet.
where known_at <= {{ as_of_at() }}
