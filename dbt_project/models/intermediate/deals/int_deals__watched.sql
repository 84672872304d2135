-- Deals whose risks are looked at: the open ones, and as many of all, drawn by their key, as what a risk has meant is counted on.
with rules as (
    select * from {{ source('settings', 'deal_risk_rules') }}
),

numbered as (
    select
        opportunity_id,
        status,
        row_number() over (order by {{ dbt.hash('opportunity_id') }}, opportunity_id) as draw_no
    from {{ ref('int_deals') }}
)

select
    numbered.opportunity_id,
    case when numbered.draw_no <= rules.most_deals then 1 else 0 end as is_drawn
from numbered
cross join rules
where numbered.status = 'open' or numbered.draw_no <= rules.most_deals
