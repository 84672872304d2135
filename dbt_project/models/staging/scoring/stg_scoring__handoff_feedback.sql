with source as (
    {{ events_as_of(source('raw', 'scoring__handoff_feedback'), 'feedback_id', 'occurred_at') }}
),

renamed as (
    select
        feedback_id,
        account_id,
        decision,
        note,
        author,
        occurred_at
    from source
)

select * from renamed
