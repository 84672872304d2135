-- What mail-security gateways and crawlers did, and by what each is recognised. Kept from build to build: the messages, the minutes of
-- an address and the events that changed are looked at again.
--
-- Whatever is measured here is measured within one message to one recipient, one minute of one network address, or one event; each
-- is a group, and a group is always looked at as a whole. The limits are settings (`bots` of scorecard.yml).
{%- set looked_at = ref('int_bots__looked_at') %}
{%- set emails = ref('stg_email__events') %}
{%- set landed_emails = ref('stg_email__landed_events') %}
{%- set visits = ref('stg_web__events') %}
{%- set changed_emails = ref('stg_email__changed_events') %}
{%- set changed_visits = ref('stg_web__changed_events') %}
with limits as (
    select * from {{ source('settings', 'bots') }}
),

agents as (
    select * from {{ ref('int_bots__agents') }}
    where is_known_bot or is_data_centre
),

-- All events of a message, with no more than tells a recipient and a moment: what else a click has is read of clicks alone.
{%- if not is_full_build() %}

message_rows as (
    {{ landed_rows(
        landed_emails,
        ['_message_id_key in (select ' ~ search_number('message_id') ~ ' from ' ~ looked_at ~ ' where message_id is not null)'],
        columns=['message_id', 'contact_id', 'email', 'event_type', 'occurred_at']
    ) }}
),

message_events as (
    {{ events_as_of('message_rows', '_key_hash', 'occurred_at') }}
),

-- Some messages share a number: those that were not asked for keep what is known of them.
messages_looked_at as (
    select * from message_events
    where message_id in (select message_id from {{ looked_at }} where message_id is not null)
),
{%- endif %}

messages as (
    select
        message_id,
        {{ bot_recipient() }} as recipient,
        event_type,
        occurred_at
    from {{ emails if is_full_build() else 'messages_looked_at' }}
    where event_type in ('delivered', 'opened', 'clicked', 'unsubscribed') and message_id is not null
),

receipts as (
    select
        message_id,
        recipient,
        min(case when event_type = 'delivered' then occurred_at end) as delivered_at,
        min(case when event_type = 'opened' then occurred_at end) as opened_at
    from messages
    group by message_id, recipient
),
{%- if not is_full_build() %}

click_rows as (
    select *
    from {{ landed_emails }}
    where _place in (select _place from messages_looked_at where event_type in ('clicked', 'unsubscribed'))
),
{%- endif %}

clicks as (
    {{ bot_events(emails if is_full_build() else 'click_rows') }}
    where event_type in ('clicked', 'unsubscribed') and message_id is not null
),

at_once as (
    select
        clicks.touchpoint_key,
        count(distinct near.link) as link_count,
        max(case when near.is_unsubscription then 1 else 0 end) as unsubscription_count,
        max(case when near.is_unsubscription then 0 else 1 end) as other_count
    from clicks
    cross join limits
    inner join clicks as near
        on
            clicks.message_id = near.message_id
            and clicks.recipient = near.recipient
            and {{ seconds_between('clicks.occurred_at', 'near.occurred_at') }} <= limits.at_once_seconds
            and {{ seconds_between('near.occurred_at', 'clicks.occurred_at') }} <= limits.at_once_seconds
    group by clicks.touchpoint_key
),

by_message as (
    select
        clicks.message_key as group_key,
        clicks.touchpoint_key,
        case
            when at_once.link_count >= limits.links_at_once then 'many links of one message at once'
            when at_once.unsubscription_count > 0 and at_once.other_count > 0
                then 'a link and the unsubscription at once'
            when
                clicks.occurred_at >= receipts.delivered_at
                and {{ seconds_between('receipts.delivered_at', 'clicks.occurred_at') }} <= limits.seconds_after_delivery
                then 'seconds after delivery'
            when agents.is_data_centre and coalesce(receipts.opened_at > clicks.occurred_at, true)
                then 'not opened, from a data centre'
        end as reason
    from clicks
    cross join limits
    inner join at_once on clicks.touchpoint_key = at_once.touchpoint_key
    inner join receipts on clicks.message_id = receipts.message_id and clicks.recipient = receipts.recipient
    left join agents on clicks.user_agent = agents.user_agent
),

acted as (
    {{ bot_events(emails) }}
    where
        event_type in ('opened', 'clicked', 'unsubscribed')
        and ip_address is not null
        {%- if not is_full_build() %}
        -- Of years of events only those since the first minute that is looked at are searched by address; none where there is no address.
        and occurred_at >= (select coalesce(min(minute_at), {{ end_of_time() }}) from {{ looked_at }})
        and {{ row_key(['ip_address', dbt.date_trunc('minute', 'occurred_at')]) }} in (select group_key from {{ looked_at }})
        {%- endif %}
),

crowded as (
    select
        ip_address,
        minute_at
    from acted
    cross join limits
    group by ip_address, minute_at, limits.recipients_per_minute
    having count(distinct recipient) >= limits.recipients_per_minute
),

by_address as (
    select
        acted.minute_key as group_key,
        acted.touchpoint_key,
        'one address for many recipients' as reason
    from acted
    inner join crowded on acted.ip_address = crowded.ip_address and acted.minute_at = crowded.minute_at
),

{%- if not is_full_build() %}

changed_emails as (
    {{ events_as_of(changed_emails, 'event_id', 'occurred_at') }}
),

changed_visits as (
    {{ events_as_of(changed_visits, 'event_id', 'occurred_at') }}
),
{%- endif %}

by_agent as (
    select
        'email' as source,
        emails._key_hash as touchpoint_key
    from {{ emails if is_full_build() else 'changed_emails' }} as emails
    inner join agents on emails.user_agent = agents.user_agent and agents.is_known_bot
    where emails.event_type in ('opened', 'clicked', 'unsubscribed')

    union all

    select
        'web' as source,
        visits._key_hash as touchpoint_key
    from {{ visits if is_full_build() else 'changed_visits' }} as visits
    -- No mail program comes to a web site: what calls from a data centre there is no person's.
    inner join agents on visits.user_agent = agents.user_agent
)

select
    'email' as source,
    group_key,
    touchpoint_key,
    reason
from by_message
where reason is not null

union all

select
    'email' as source,
    group_key,
    touchpoint_key,
    reason
from by_address

union all

select
    source,
    touchpoint_key as group_key,
    touchpoint_key,
    'program of a crawler or gateway' as reason
from by_agent
