-- How engaged the people of accounts with deals were as of any day: days on which somebody did something of what counts as engagement,
-- counted per person, of the whole days before. A row for each day on which the count becomes another one, so that a lookup as of any
-- moment finds what was known then. A view: only forecasts ask, once a day.
with refresh as (
    select * from {{ source('settings', 'refresh') }}
),

with_deals as (
    select distinct
        account_id,
        {{ id_key('account_id') }} as account_key
    from {{ ref('int_deals__history') }}
    where account_id is not null
),

-- Nobody in particular is one person of no name.
person_days as (
    select
        with_deals.account_id,
        daily.contact_key,
        daily.event_date,
        min(daily.known_date) as known_date
    from {{ ref('int_touchpoints__daily') }} as daily
    inner join with_deals on daily.account_key = with_deals.account_key
    inner join {{ source('settings', 'engaging_signals') }} as signals on daily.signal = signals.signal
    group by with_deals.account_id, daily.contact_key, daily.event_date
),

-- Each counts from the day after it was known to the last day whose window holds it; what was known later never counts.
changes as (
    select
        account_id,
        {{ dbt.dateadd('day', 1, 'known_date') }} as changed_at,
        1 as count_change
    from person_days
    where {{ days_between('event_date', 'known_date') }} < {{ engagement_days() }}

    union all

    select
        account_id,
        {{ dbt.dateadd('day', engagement_days() + 1, 'event_date') }} as changed_at,
        -1 as count_change
    from person_days
    where {{ days_between('event_date', 'known_date') }} < {{ engagement_days() }}
),

by_day as (
    select
        account_id,
        cast(changed_at as timestamp) as known_from,
        cast(sum(count_change) as bigint) as count_change
    from changes
    group by account_id, cast(changed_at as timestamp)
    having sum(count_change) <> 0
)

select
    by_day.account_id,
    by_day.known_from,
    cast(
        sum(by_day.count_change) over (
            partition by by_day.account_id order by by_day.known_from rows between unbounded preceding and current row
        ) as bigint
    ) as person_day_count
from by_day
cross join refresh
where by_day.known_from <= refresh.as_of_at
