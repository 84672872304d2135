with refresh as (
    select * from {{ source('settings', 'refresh') }}
),

days as (
    select * from {{ ref('int_score_days') }}
)

select
    days.record_date,
    days.previous_date,
    days.as_of_at,
    days.recorded_at,
    true as is_recorded
from days
where days.is_in_window

union all

select
    refresh.as_of_date as record_date,
    days.record_date as previous_date,
    refresh.as_of_at,
    cast(null as timestamp) as recorded_at,
    false as is_recorded
from refresh
left join days on days.is_last
cross join {{ source('settings', 'scorecard') }} as card
