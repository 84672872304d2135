-- Why each open deal has the chances that its newest forecast gives it.
with effects as (
    select
        effects.*,
        row_number() over (
            partition by effects.forecast_id, effects.opportunity_id, effects.factor order by effects.made_at desc nulls last
        ) as newest_first
    from {{ source('history', 'forecast_effects') }} as effects
)

select
    deals.opportunity_id,
    deals.opportunity_name,
    deals.owner_id,
    deals.amount,
    effects.factor,
    case when effects.factor = 'owner' then coalesce(users.user_name, effects.observed) else effects.observed end as observed,
    effects.won_this_month_effect,
    effects.won_this_quarter_effect,
    effects.won_next_quarter_effect,
    deals.forecast_id,
    deals.forecast_as_of_at
from {{ ref('deal_forecasts') }} as deals
inner join effects on deals.forecast_id = effects.forecast_id and deals.opportunity_id = effects.opportunity_id
left join {{ ref('stg_crm__users') }} as users on effects.observed = users.user_id
where effects.newest_first = 1
