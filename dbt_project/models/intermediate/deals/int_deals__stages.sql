-- The open stages in their order: as the settings list them, or else in the order in which won deals came into them.
with listed as (
    select * from {{ source('settings', 'pipeline_stages') }}
),

won as (
    select opportunity_id
    from {{ ref('int_deals') }}
    where status = 'won'
),

entries as (
    select
        history.opportunity_id,
        history.stage,
        min(history.valid_from) as entered_at
    from {{ ref('int_deals__history') }} as history
    inner join won on history.opportunity_id = won.opportunity_id
    where history.status = 'open' and history.stage is not null
    group by history.opportunity_id, history.stage
),

placed as (
    select
        stage,
        row_number() over (partition by opportunity_id order by entered_at, stage) as place
    from entries
),

-- A whole number before it is divided, so that the order does not depend on the order of adding.
found as (
    select
        stage,
        1.0e0 * sum(place) / count(*) as mean_place
    from placed
    group by stage
)

select
    stage,
    cast(stage_no as bigint) as stage_no
from listed

union all

select
    found.stage,
    row_number() over (order by found.mean_place, found.stage) as stage_no
from found
where not exists (select 1 from listed)
