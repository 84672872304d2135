with files as (
    select
        source_table,
        original_name as file_name,
        status,
        arrived_at,
        rows_in,
        rows_loaded,
        rows_already_there,
        rows_quarantined,
        message
    from {{ source('load', 'files') }}
),

notices as (
    select
        source_table,
        original_name as file_name,
        status,
        cast(null as timestamp) as arrived_at,
        cast(0 as bigint) as rows_in,
        cast(0 as bigint) as rows_loaded,
        cast(0 as bigint) as rows_already_there,
        cast(0 as bigint) as rows_quarantined,
        message
    from {{ source('load', 'notices') }}
),

refused as (
    select
        folder as source_table,
        file_name,
        'refused' as status,
        cast(null as timestamp) as arrived_at,
        cast(0 as bigint) as rows_in,
        cast(0 as bigint) as rows_loaded,
        cast(0 as bigint) as rows_already_there,
        cast(0 as bigint) as rows_quarantined,
        reason as message
    from {{ source('settings', 'refused_files') }}
)

select * from files
union all
select * from notices
union all
select * from refused
