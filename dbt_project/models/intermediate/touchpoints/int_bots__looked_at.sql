-- Messages, minutes of an address and single events in which a bot may be found, or found no more, since the last build. None in a
-- full build, which looks at all. The message and the address stand beside, so that years of events are searched by them as they are.
{%- set emails = ref('stg_email__changed_events') %}
{%- set visits = ref('stg_web__changed_events') %}
with groups_of_events as (
    select
        {{ row_key(['message_id']) }} as group_key,
        message_id,
        cast(null as {{ dbt.type_string() }}) as ip_address,
        cast(null as timestamp) as minute_at
    from {{ emails }}
    where message_id is not null

    union all

    select
        {{ row_key(['ip_address', dbt.date_trunc('minute', 'occurred_at')]) }} as group_key,
        cast(null as {{ dbt.type_string() }}) as message_id,
        ip_address,
        {{ dbt.date_trunc('minute', 'occurred_at') }} as minute_at
    from {{ emails }}
    where ip_address is not null

    union all

    select
        _key_hash as group_key,
        cast(null as {{ dbt.type_string() }}) as message_id,
        cast(null as {{ dbt.type_string() }}) as ip_address,
        cast(null as timestamp) as minute_at
    from {{ emails }}

    union all

    select
        _key_hash as group_key,
        cast(null as {{ dbt.type_string() }}) as message_id,
        cast(null as {{ dbt.type_string() }}) as ip_address,
        cast(null as timestamp) as minute_at
    from {{ visits }}
)

select
    group_key,
    max(message_id) as message_id,
    max(ip_address) as ip_address,
    max(minute_at) as minute_at
from groups_of_events
{%- if is_full_build() %}
where 1 = 0
{%- endif %}
group by group_key
