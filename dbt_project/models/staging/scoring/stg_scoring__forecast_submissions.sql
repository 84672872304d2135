with source as (
    {{ events_as_of(source('raw', 'scoring__forecast_submissions'), 'submission_id', 'recorded_at') }}
),

renamed as (
    select
        submission_id,
        kind,
        period_type,
        period_start,
        dimension,
        label,
        amount,
        currency,
        note,
        author,
        recorded_at,
        expires_at,
        void_of
    from source
)

select * from renamed
