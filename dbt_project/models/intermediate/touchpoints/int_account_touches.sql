-- Kept from build to build: the counts are corrected by what changed.
{%- set moved = ref('int_touchpoints__moved') %}
{%- set daily = ref('int_touchpoints__daily') %}
{%- if not is_full_build() %}
with moved as (
    select
        account_key,
        cast(sum(count_change) as bigint) as count_change
    from {{ moved }}
    where account_key is not null
    group by account_key
)

select
    moved.account_key,
    coalesce(kept.touchpoint_count, 0) + moved.count_change as touchpoint_count
from moved
left join {{ this }} as kept on moved.account_key = kept.account_key
{%- else %}
select
    account_key,
    cast(sum(touchpoint_count) as bigint) as touchpoint_count
from {{ daily }}
group by account_key
{%- endif %}
