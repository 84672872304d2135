with source as (
    {{ events_as_of(source('raw', 'scoring__adjustments'), 'adjustment_id', 'occurred_at') }}
),

renamed as (
    select
        adjustment_id,
        account_id,
        operation,
        points,
        note,
        author,
        occurred_at,
        expires_at
    from source
)

select * from renamed
