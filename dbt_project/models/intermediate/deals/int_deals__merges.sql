-- Times in which a deal counts in another one, because its record said that it was merged into it: from when the other one existed.
-- Whoever is merged into itself, into a deal that never landed, or in a circle stands for itself: nothing is lost, nothing counts twice.
with versions as (
    select * from {{ ref('stg_crm__opportunity_versions') }}
),

first_seen as (
    select
        opportunity_id,
        min(version_at) as first_seen_at
    from versions
    where opportunity_id in (select merged.merged_into_opportunity_id from versions as merged)
    group by opportunity_id
),

existing as (
    select
        versions.opportunity_id,
        min(greatest(versions.valid_from, coalesce(versions.opened_at, first_seen.first_seen_at))) as exists_from
    from versions
    inner join first_seen on versions.opportunity_id = first_seen.opportunity_id
    group by versions.opportunity_id
),

links as (
    select
        versions.opportunity_id,
        existing.opportunity_id as into_id,
        greatest(versions.valid_from, existing.exists_from) as valid_from,
        versions.valid_to
    from versions
    inner join existing on versions.merged_into_opportunity_id = existing.opportunity_id
    where
        versions.opportunity_id <> existing.opportunity_id
        and versions.valid_from <= {{ as_of_at() }}
        and existing.exists_from < versions.valid_to
),

-- Where each deal leads to in up to sixteen steps, and when all of them held.
{% for steps in [2, 4, 8, 16] %}
{%- set half = 'links' if steps == 2 else 'paths_' ~ (steps // 2) %}
paths_{{ steps }} as (
    select * from {{ half }}

    union

    select
        nearer.opportunity_id,
        farther.into_id,
        greatest(nearer.valid_from, farther.valid_from) as valid_from,
        least(nearer.valid_to, farther.valid_to) as valid_to
    from {{ half }} as nearer
    inner join {{ half }} as farther
        on
            nearer.into_id = farther.opportunity_id
            and nearer.valid_from < farther.valid_to
            and farther.valid_from < nearer.valid_to
),
{% endfor %}
circles as (
    select
        opportunity_id,
        valid_from,
        valid_to
    from paths_16
    where opportunity_id = into_id
),

moments as (
    select opportunity_id, valid_from as moment from links
    union
    select opportunity_id, valid_to as moment from links
    union
    select opportunity_id, valid_from as moment from circles
    union
    select opportunity_id, valid_to as moment from circles
),

pieces as (
    select
        opportunity_id,
        moment as valid_from,
        lead(moment) over (partition by opportunity_id order by moment) as valid_to
    from moments
),

circling as (
    select distinct
        pieces.opportunity_id,
        pieces.valid_from
    from pieces
    inner join circles
        on
            pieces.opportunity_id = circles.opportunity_id
            and pieces.valid_from >= circles.valid_from
            and pieces.valid_from < circles.valid_to
)

select
    pieces.opportunity_id,
    links.into_id as merged_into_opportunity_id,
    pieces.valid_from,
    pieces.valid_to
from pieces
inner join links
    on
        pieces.opportunity_id = links.opportunity_id
        and pieces.valid_from >= links.valid_from
        and pieces.valid_from < links.valid_to
left join circling on pieces.opportunity_id = circling.opportunity_id and pieces.valid_from = circling.valid_from
where circling.opportunity_id is null
