-- A merged record points at the one that it was merged into, which may itself have been merged: sixteen steps are followed,
-- each join doubling those of the one before. A pointer to a record that was never landed is not followed; records that point
-- at each other in a circle stand for themselves.
with contacts as (
    {{ records_as_of(source('raw', 'crm__contacts'), ['contact_id']) }}
),

links as (
    select
        merged.contact_id,
        target.contact_id as into_id
    from contacts as merged
    inner join contacts as target on merged.merged_into_contact_id = target.contact_id
    where merged.contact_id <> target.contact_id
),
{% for steps in [2, 4, 8, 16] %}
{%- set half = 'links' if steps == 2 else 'steps_' ~ (steps // 2) %}
steps_{{ steps }} as (
    select
        nearer.contact_id,
        coalesce(farther.into_id, nearer.into_id) as into_id
    from {{ half }} as nearer
    left join {{ half }} as farther on nearer.into_id = farther.contact_id
),
{% endfor %}
resolved as (
    select
        contacts.contact_id,
        case
            when onward.contact_id is null then coalesce(steps_16.into_id, contacts.contact_id)
            else contacts.contact_id
        end as surviving_contact_id
    from contacts
    left join steps_16 on contacts.contact_id = steps_16.contact_id
    left join links as onward on steps_16.into_id = onward.contact_id
)

select * from resolved
