-- A merged record points at the one that it was merged into, which may itself have been merged: four steps are followed.
-- A chain that runs in a circle, or to a record that was never landed, ends at its last known record.
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

resolved as (
    select
        contacts.contact_id,
        coalesce(step_4.into_id, step_3.into_id, step_2.into_id, step_1.into_id, contacts.contact_id) as surviving_contact_id
    from contacts
    left join links as step_1 on contacts.contact_id = step_1.contact_id
    left join links as step_2 on step_1.into_id = step_2.contact_id
    left join links as step_3 on step_2.into_id = step_3.contact_id
    left join links as step_4 on step_3.into_id = step_4.contact_id
)

select * from resolved
