with source as (
    {{ events_as_of(source('raw', 'scoring__segment_changes'), 'change_id', 'changed_at') }}
),

renamed as (
    select
        change_id,
        segment,
        account_id,
        change,
        changed_at,
        definition_hash
    from source
)

select * from renamed
