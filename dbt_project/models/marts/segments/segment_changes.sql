with changes as (
    select
        segment,
        account_id,
        change,
        changed_at,
        definition_hash
    from {{ ref('stg_scoring__segment_changes') }}

    union all

    select
        segment,
        account_id,
        change,
        changed_at,
        definition_hash
    from {{ ref('int_segments__due') }}
),

ordered as (
    select
        changes.*,
        lag(changes.definition_hash) over (
            partition by changes.segment order by changes.changed_at, changes.account_id
        ) as hash_before,
        case
            when row_number() over (partition by changes.segment order by changes.changed_at, changes.account_id) = 1 then 1
            else 0
        end as is_first
    from changes
),

-- A definition is new at the first moment that any change carries it.
moments as (
    select
        segment,
        changed_at,
        max(case when definition_hash is distinct from hash_before then 1 else 0 end) as is_other_definition,
        max(is_first) as is_first
    from ordered
    group by segment, changed_at
)

select
    ordered.segment,
    ordered.account_id,
    ordered.change,
    ordered.changed_at,
    case
        when moments.is_first = 1 then 'the segment is new'
        when moments.is_other_definition = 1 then 'the segment was defined anew'
        else 'the account changed'
    end as reason
from ordered
inner join moments on ordered.segment = moments.segment and ordered.changed_at = moments.changed_at
