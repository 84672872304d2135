-- Who entered or left the cells with the hand-over action at this refresh. It is landed before the marts are published, so that the next
-- refresh finds it and this is empty. A refresh of a moment that is not after the last crossing looks back: nothing changes in the past.
with refresh as (
    select
        refresh.as_of_at,
        rules.handoff_action,
        card.scorecard_version
    from {{ source('settings', 'refresh') }} as refresh
    cross join {{ source('settings', 'matrix_rules') }} as rules
    cross join {{ ref('stg_scoring__handoff_clock') }} as clock
    cross join {{ source('settings', 'scorecard') }} as card
    where refresh.as_of_at > clock.last_changed_at
),

landed as (
    select
        account_id,
        change,
        changed_at,
        cell,
        row_number() over (partition by account_id order by changed_at desc, crossing_id desc nulls last) as newest_first
    from {{ ref('stg_scoring__handoff_crossings') }}
),

balances as (
    select
        account_id,
        points
    from {{ ref('int_adjustments__balances') }}
    where subject_kind = 'account'
),

-- Every account as it stands, and whether its cell is one of those; an account that is held out has no action.
current_accounts as (
    select
        accounts.account_id,
        accounts.owner_id,
        states.state,
        scored.cell,
        scored.model_points + coalesce(balances.points, 0) as total_points,
        scored.win_probability,
        case when not accounts.is_holdout and actions.next_action = refresh.handoff_action then 1 else 0 end as is_inside
    from {{ ref('int_accounts') }} as accounts
    inner join {{ ref('int_accounts__states') }} as states on accounts.account_id = states.account_id
    cross join refresh
    left join {{ ref('int_accounts__scored') }} as scored on accounts.account_id = scored.account_id
    left join {{ source('settings', 'matrix_actions') }} as actions on scored.cell = actions.cell
    left join balances on accounts.account_id = balances.account_id
),

last_known as (
    select
        account_id,
        change,
        changed_at,
        cell
    from landed
    where newest_first = 1
),

both_times as (
    select
        coalesce(current_accounts.account_id, last_known.account_id) as account_id,
        case when coalesce(current_accounts.is_inside, 0) = 1 then 'entered' else 'left' end as change,
        last_known.changed_at as last_changed_at,
        last_known.cell as last_cell,
        current_accounts.owner_id,
        coalesce(current_accounts.cell, current_accounts.state, 'gone') as cell,
        current_accounts.total_points,
        current_accounts.win_probability
    from current_accounts
    full outer join last_known on current_accounts.account_id = last_known.account_id
    where
        coalesce(current_accounts.is_inside, 0)
        <> case when last_known.change = 'entered' then 1 else 0 end
)

select
    both_times.account_id || '/' || cast(refresh.as_of_at as {{ dbt.type_string() }}) as crossing_id,
    both_times.account_id,
    both_times.change,
    refresh.as_of_at as changed_at,
    refresh.handoff_action as next_action,
    -- The last that is on record: where it went when it last crossed, or the end of a day since.
    case
        when recorded.account_id is null or cast(both_times.last_changed_at as date) > recorded.record_date
            then both_times.last_cell
        else coalesce(recorded.cell, recorded.state)
    end as from_cell,
    both_times.cell,
    both_times.owner_id,
    both_times.total_points,
    cast(both_times.win_probability as decimal(10, 9)) as win_probability,
    refresh.scorecard_version
from both_times
cross join refresh
left join {{ ref('int_scores__recorded') }} as recorded on both_times.account_id = recorded.account_id
