-- Kept from build to build: the counts are corrected by what changed; of whom the last day went, the days are looked at again.
{%- set moved = ref('int_touchpoints__moved') %}
{%- set daily = ref('int_touchpoints__daily') %}
{%- if not is_full_build() %}
with moved as (
    select
        contact_key,
        cast(sum(count_change) as bigint) as count_change,
        max(case when count_change > 0 then event_date end) as last_date,
        max(case when count_change < 0 then event_date end) as last_gone_date
    from {{ moved }}
    where account_key is not null and contact_key is not null
    group by contact_key
),

corrected as (
    select
        moved.contact_key,
        coalesce(kept.touchpoint_count, 0) + moved.count_change as touchpoint_count,
        greatest(coalesce(kept.last_touchpoint_date, moved.last_date), coalesce(moved.last_date, kept.last_touchpoint_date))
            as last_date,
        coalesce(moved.last_gone_date >= kept.last_touchpoint_date, false) as is_last_gone
    from moved
    left join {{ this }} as kept on moved.contact_key = kept.contact_key
),

last_days as (
    select
        contact_key,
        max(event_date) as last_date
    from {{ daily }}
    where contact_key in (select contact_key from corrected where is_last_gone)
    group by contact_key
)

select
    corrected.contact_key,
    corrected.touchpoint_count,
    case when corrected.is_last_gone then last_days.last_date else corrected.last_date end as last_touchpoint_date
from corrected
left join last_days on corrected.contact_key = last_days.contact_key
{%- else %}
select
    contact_key,
    cast(sum(touchpoint_count) as bigint) as touchpoint_count,
    max(event_date) as last_touchpoint_date
from {{ daily }}
where contact_key is not null
group by contact_key
{%- endif %}
