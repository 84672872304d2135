-- The newest row of each deal's history is the deal as it is now, and no deal is missing on either side.
with now_of_history as (
    select
        opportunity_id, account_id, owner_id, stage, status, amount, opened_at, expected_close_date, closed_at, forecast_category
    from {{ ref('int_deals__history') }}
    where valid_to = {{ end_of_time() }}
),

deals as (
    select
        opportunity_id, account_id, owner_id, stage, status, amount, opened_at, expected_close_date, closed_at, forecast_category
    from {{ ref('int_deals') }}
)

select * from (select * from now_of_history except select * from deals) as only_history
union all
select * from (select * from deals except select * from now_of_history) as only_deals
