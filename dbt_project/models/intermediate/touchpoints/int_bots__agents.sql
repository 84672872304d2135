-- Which programs say of themselves that they are no person's: each one is looked up once and kept.
{%- set visits = ref('stg_web__events') %}
{%- set emails = ref('stg_email__events') %}
{%- set changed_visits = ref('stg_web__changed_events') %}
{%- set changed_emails = ref('stg_email__changed_events') %}
with agents as (
    select user_agent
    from {{ visits if is_full_build() else changed_visits }}
    where user_agent is not null

    union

    select user_agent
    from {{ emails if is_full_build() else changed_emails }}
    where user_agent is not null
),

new_agents as (
    select user_agent from agents
    {%- if not is_full_build() %}
    where user_agent not in (select user_agent from {{ this }})
    {%- endif %}
)

select
    new_agents.user_agent,
    coalesce(max(case when fragments.kind = 'known' then 1 else 0 end), 0) = 1 as is_known_bot,
    coalesce(max(case when fragments.kind = 'data_centre' then 1 else 0 end), 0) = 1 as is_data_centre
from new_agents
left join {{ source('settings', 'bot_agents') }} as fragments
    on {{ dbt.position('fragments.fragment', 'new_agents.user_agent') }} > 0
group by new_agents.user_agent
