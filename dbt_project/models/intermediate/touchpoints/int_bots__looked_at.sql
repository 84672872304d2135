-- Messages, minutes of an address and single events in which a bot may be found, or found no more, since the last build. None in a
-- full build, which looks at all.
{%- set emails = ref('stg_email__changed_events') %}
{%- set visits = ref('stg_web__changed_events') %}
with groups_of_events as (
    select {{ row_key(['message_id']) }} as group_key
    from {{ emails }}
    where message_id is not null

    union all

    select {{ row_key(['ip_address', dbt.date_trunc('minute', 'occurred_at')]) }} as group_key
    from {{ emails }}
    where ip_address is not null

    union all

    select _key_hash as group_key from {{ emails }}

    union all

    select _key_hash as group_key from {{ visits }}
)

select distinct group_key
from groups_of_events
{%- if is_full_build() %}
where 1 = 0
{%- endif %}
