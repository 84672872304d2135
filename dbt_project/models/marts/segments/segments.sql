with counts as (
    select
        segment,
        count(*) as member_count
    from {{ ref('int_segments__members') }}
    group by segment
)

select
    segments.segment,
    segments.title,
    segments.description,
    segments.condition_text,
    segments.rank_by,
    segments.most,
    coalesce(counts.member_count, 0) as member_count
from {{ source('settings', 'segments') }} as segments
left join counts on segments.segment = counts.segment
