-- The chance of the typical deal and what is known of a deal make its chance, to five millionths.
with effects as (
    select
        opportunity_id,
        sum(won_this_month_effect) as won_this_month_probability,
        sum(won_this_quarter_effect) as won_this_quarter_probability,
        sum(won_next_quarter_effect) as won_next_quarter_probability
    from {{ ref('deal_forecast_effects') }}
    group by opportunity_id
)

select effects.opportunity_id
from effects
inner join {{ ref('deal_forecasts') }} as deals on effects.opportunity_id = deals.opportunity_id
where
    abs(effects.won_this_month_probability - deals.won_this_month_probability) > 0.000005
    or abs(effects.won_this_quarter_probability - deals.won_this_quarter_probability) > 0.000005
    or abs(effects.won_next_quarter_probability - deals.won_next_quarter_probability) > 0.000005
