-- Who entered or left a segment at this refresh. It is landed before the marts are published, so that the next refresh finds it and
-- this is empty. A refresh of an earlier moment than the last change looks back: nothing changes in the past.
with landed as (
    select
        segment,
        account_id,
        change,
        row_number() over (partition by segment, account_id order by changed_at desc, change) as newest_first
    from {{ ref('stg_scoring__segment_changes') }}
),

inside as (
    select
        segment,
        account_id
    from landed
    where newest_first = 1 and change = 'entered'
),

members as (
    select
        segment,
        account_id
    from {{ ref('int_segments__members') }}
),

both_times as (
    select
        coalesce(members.segment, inside.segment) as segment,
        coalesce(members.account_id, inside.account_id) as account_id,
        case when inside.account_id is null then 'entered' else 'left' end as change
    from members
    full outer join inside on members.segment = inside.segment and members.account_id = inside.account_id
    where members.account_id is null or inside.account_id is null
),

refresh as (
    select
        refresh.as_of_at,
        clock.is_looking_back
    from {{ source('settings', 'refresh') }} as refresh
    cross join {{ source('settings', 'segment_clock') }} as clock
)

select
    both_times.segment || '/' || both_times.account_id || '/' || cast(refresh.as_of_at as {{ dbt.type_string() }}) as change_id,
    both_times.segment,
    both_times.account_id,
    both_times.change,
    refresh.as_of_at as changed_at,
    segments.definition_hash
from both_times
cross join refresh
left join {{ source('settings', 'segments') }} as segments on both_times.segment = segments.segment
where not refresh.is_looking_back
