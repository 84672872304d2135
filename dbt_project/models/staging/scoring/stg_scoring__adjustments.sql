with source as (
    {{ events_as_of(
        source('raw', 'scoring__adjustments'),
        'adjustment_id',
        'greatest(occurred_at, coalesce(recorded_at, occurred_at))'
    ) }}
),

renamed as (
    select
        adjustment_id,
        account_id,
        contact_id,
        operation,
        points,
        note,
        author,
        occurred_at,
        expires_at,
        source,
        title,
        recorded_at,
        void_of,
        rule_id,
        rule_version,
        firing_slot,
        trigger_id
    from source
)

select * from renamed
