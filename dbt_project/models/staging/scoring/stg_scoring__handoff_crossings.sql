with source as (
    {{ events_as_of(source('raw', 'scoring__handoff_crossings'), 'crossing_id', 'changed_at') }}
),

renamed as (
    select
        crossing_id,
        account_id,
        change,
        changed_at,
        next_action,
        from_cell,
        cell,
        owner_id,
        total_points,
        win_probability,
        scorecard_version
    from source
)

select * from renamed
