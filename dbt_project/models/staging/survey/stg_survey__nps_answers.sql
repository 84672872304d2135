with source as (
    {{ events_as_of(source('raw', 'survey__nps_answers'), 'answer_id', 'answered_at') }}
),

renamed as (
    select
        answer_id,
        answered_at,
        nps_score,
        contact_id,
        email,
        account_id,
        _key_hash
    from source
)

select * from renamed
