-- Web events that name somebody: some of all, so that who a visitor was is found without a look at the others. Kept from build to build.
{%- set events = ref('stg_web__events') %}
{%- set changed = ref('stg_web__changed_events') %}
with events as (
    {%- if is_full_build() %}
    select * from {{ events }}
    {%- else %}
    {{ events_as_of(changed, 'event_id', 'occurred_at') }}
    {%- endif %}
)

select
    _key_hash as event_key,
    visitor_id,
    occurred_at,
    contact_id,
    lower(trim(email)) as email
from events
where visitor_id is not null and (contact_id is not null or email is not null)
