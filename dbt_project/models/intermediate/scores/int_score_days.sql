-- The recorded days before the day of this refresh: what a back-dated one sees ends with its own day before.
with days as (
    select days.*
    from {{ source('history', 'score_days') }} as days
    cross join {{ source('settings', 'refresh') }} as refresh
    where days.record_date < refresh.as_of_date
),

-- Where the marts begin: with the last whole day before their window, or else with the first day.
window_start as (
    select
        max(days.record_date) as last_date,
        max(case when days.is_whole then days.record_date end) as last_whole_date,
        coalesce(
            max(
                case
                    when
                        days.is_whole
                        and days.record_date
                        <= cast({{ dbt.dateadd('day', '-rules.history_days', 'refresh.as_of_date') }} as date)
                        then days.record_date
                end
            ),
            min(days.record_date)
        ) as first_date
    from days
    cross join {{ source('settings', 'refresh') }} as refresh
    cross join {{ source('settings', 'matrix_rules') }} as rules
)

select
    days.record_date,
    days.as_of_at,
    days.recorded_at,
    days.is_whole,
    lag(days.record_date) over (order by days.record_date) as previous_date,
    days.record_date = window_start.first_date as is_first,
    days.record_date >= window_start.first_date as is_in_window,
    days.record_date >= window_start.last_whole_date as is_in_state,
    days.record_date = window_start.last_date as is_last
from days
cross join window_start
