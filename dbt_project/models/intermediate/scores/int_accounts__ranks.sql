-- What an account has only among all others: another one's change moves its rank, and a deal won moves what a deal is worth. Narrow,
-- because it is made anew at each refresh.
with balances as (
    select
        account_id,
        points
    from {{ ref('int_adjustments__balances') }}
    where subject_kind = 'account'
),

scored as (
    select
        of_the_card.account_id,
        of_the_card.win_probability,
        of_the_card.model_points + coalesce(balances.points, 0) as total_points,
        accounts.is_holdout
    from {{ ref('int_accounts__scored') }} as of_the_card
    inner join {{ ref('int_accounts') }} as accounts on of_the_card.account_id = accounts.account_id
    left join balances on of_the_card.account_id = balances.account_id
),

ranked as (
    select
        scored.*,
        row_number() over (partition by is_holdout order by total_points desc, account_id) as rank_no,
        count(*) over (partition by is_holdout) as ranked_count
    from scored
)

select
    ranked.account_id,
    {{ expected_value('ranked.win_probability', 'deal_values.deal_amount') }} as expected_value,
    case when not ranked.is_holdout then cast(ranked.rank_no as bigint) end as {{ adapter.quote('rank') }},
    case
        when not ranked.is_holdout
            then cast(100.0 * (ranked.ranked_count - ranked.rank_no) / ranked.ranked_count as double)
    end as percentile
from ranked
inner join {{ ref('int_accounts__deal_values') }} as deal_values on ranked.account_id = deal_values.account_id
