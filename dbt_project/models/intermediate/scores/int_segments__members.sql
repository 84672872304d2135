-- For whom the condition of each segment holds. The view is made from the files at each refresh; its SQL may read these:
-- depends_on: {{ ref('int_accounts') }} {{ ref('int_account_attributes') }} {{ ref('int_accounts__scored') }}
-- depends_on: {{ ref('int_contacts') }} {{ ref('int_spine__contacts') }} {{ ref('int_contacts__points') }}
-- depends_on: {{ ref('int_touchpoints') }} {{ ref('stg_web__events') }}
--
-- An account that must not be written to is in no segment, nor one that is held out of the ranking: an export would undo both.
with matches as (
    select
        matched.segment,
        matched.account_id
    from {{ source('settings', 'segment_matches') }} as matched
    inner join {{ ref('int_accounts__states') }} as states on matched.account_id = states.account_id
    inner join {{ ref('int_accounts') }} as accounts on matched.account_id = accounts.account_id
    where states.state <> 'suppressed' and not accounts.is_holdout
),

worth as (
    select
        matches.segment,
        matches.account_id,
        scored.win_probability,
        scored.model_points,
        {{ expected_value('scored.win_probability', 'deal_values.deal_amount') }} as expected_value
    from matches
    inner join {{ ref('int_accounts__deal_values') }} as deal_values on matches.account_id = deal_values.account_id
    left join {{ ref('int_accounts__scored') }} as scored on matches.account_id = scored.account_id
),

valued as (
    select
        worth.segment,
        worth.account_id,
        segments.rank_by,
        segments.most,
        row_number() over (
            partition by worth.segment
            order by worth.win_probability desc nulls last, worth.model_points desc nulls last, worth.account_id
        ) as likelihood_rank,
        row_number() over (
            partition by worth.segment order by worth.expected_value desc nulls last, worth.account_id
        ) as value_rank
    from worth
    inner join {{ source('settings', 'segments') }} as segments on worth.segment = segments.segment
),

ranked as (
    select
        valued.*,
        row_number() over (
            partition by valued.segment
            order by
                case valued.rank_by
                    when 'expected_value' then valued.value_rank
                    when 'both' then valued.likelihood_rank + valued.value_rank
                    else valued.likelihood_rank
                end,
                valued.likelihood_rank
        ) as rank_no
    from valued
)

select
    segment,
    account_id,
    cast(rank_no as bigint) as rank_no
from ranked
where most is null or rank_no <= most
