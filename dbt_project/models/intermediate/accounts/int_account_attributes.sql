-- Everything that can be known about an account, one row per attribute and time for which the value held. Text is lower case, so
-- that the spelling of a category never depends on the case; numbers stand in millionths beside their text.
{%- set text_columns = [
    'industry', 'country', 'region', 'city', 'account_type', 'lifecycle_stage', 'lead_source', 'owner_id',
    'parent_account_id',
] %}
{%- set number_columns = ['employees', 'annual_revenue', 'founded_year'] %}

with needed as (
    select attribute from {{ source('settings', 'criteria') }}
    where attribute is not null
    union
    select attribute from {{ source('settings', 'condition_attributes') }}
),

versions as (
    select versions.*
    from {{ ref('stg_crm__account_versions') }} as versions
    inner join {{ ref('stg_crm__account_survivors') }} as survivors on versions.account_id = survivors.account_id
    where
        survivors.surviving_account_id = versions.account_id
        and versions.valid_from <= {{ as_of_at() }}
),

custom_fields as (
    select * from {{ ref('stg_crm__account_custom_fields') }}
),

contact_moments as (
    select
        links.account_id,
        greatest(contacts.created_at, links.known_at) as known_at,
        count(distinct contacts.contact_id) as contact_count,
        count(distinct case when seniorities.seniority is not null then contacts.contact_id end) as decision_maker_count
    from {{ ref('int_contacts') }} as contacts
    inner join (
        select
            contact_id,
            account_id,
            min(known_at) as known_at
        from {{ ref('int_contact_accounts') }}
        group by contact_id, account_id
    ) as links on contacts.contact_id = links.contact_id
    left join {{ source('settings', 'decision_maker_seniorities') }} as seniorities
        on contacts.seniority = seniorities.seniority
    group by links.account_id, greatest(contacts.created_at, links.known_at)
),

contact_counts as (
    select
        account_id,
        known_at as valid_from,
        coalesce(
            lead(known_at) over (partition by account_id order by known_at), {{ end_of_time() }}
        ) as valid_to,
        sum(contact_count) over (
            partition by account_id order by known_at rows between unbounded preceding and current row
        ) as contact_count,
        sum(decision_maker_count) over (
            partition by account_id order by known_at rows between unbounded preceding and current row
        ) as decision_maker_count
    from contact_moments
),

-- An account without contacts has none, which is a fact and not a gap: count zero from the beginning.
contact_attributes as (
    select
        account_id,
        valid_from,
        valid_to,
        contact_count,
        decision_maker_count
    from contact_counts

    union all

    select
        versions.account_id,
        {{ beginning_of_time() }} as valid_from,
        coalesce(min(contact_counts.valid_from), {{ end_of_time() }}) as valid_to,
        0 as contact_count,
        0 as decision_maker_count
    from versions
    left join contact_counts on versions.account_id = contact_counts.account_id
    where exists (select 1 from {{ ref('int_contacts__known') }} where are_known)
    group by versions.account_id
),

nps_answers as (
    select * from {{ ref('int_account_nps') }}
),

benchmarks as (
    select
        lower(trim(industry)) as industry,
        published_at as valid_from,
        coalesce(
            lead(published_at) over (partition by lower(trim(industry)) order by published_at, year), {{ end_of_time() }}
        ) as valid_to,
        market_growth_pct,
        digital_spend_pct
    from {{ ref('stg_market__industry_benchmarks') }}
    where published_at <= {{ as_of_at() }}
),

attributes as (
    {%- for column in text_columns %}
    select
        account_id,
        '{{ column }}' as attribute,
        lower(trim({{ column }})) as value_text,
        cast(null as bigint) as value_micro,
        valid_from,
        valid_to
    from versions
    where {{ column }} is not null and trim({{ column }}) <> ''

    union all
    {% endfor %}
    {%- for column in number_columns %}
    select
        account_id,
        '{{ column }}' as attribute,
        cast({{ column }} as {{ dbt.type_string() }}) as value_text,
        cast(cast({{ column }} as decimal(28, 6)) * 1000000 as bigint) as value_micro,
        valid_from,
        valid_to
    from versions
    where {{ column }} is not null

    union all
    {% endfor %}
    select
        versions.account_id,
        'custom.' || custom_fields.field as attribute,
        lower(trim(custom_fields.value)) as value_text,
        cast({{ try_cast('custom_fields.value', 'decimal(28, 6)') }} * 1000000 as bigint) as value_micro,
        versions.valid_from,
        versions.valid_to
    from versions
    inner join custom_fields on versions._file = custom_fields._file and versions._row = custom_fields._row

    union all

    select
        account_id,
        'contact_count' as attribute,
        cast(contact_count as {{ dbt.type_string() }}) as value_text,
        cast(contact_count * 1000000 as bigint) as value_micro,
        valid_from,
        valid_to
    from contact_attributes

    union all

    select
        account_id,
        'decision_maker_count' as attribute,
        cast(decision_maker_count as {{ dbt.type_string() }}) as value_text,
        cast(decision_maker_count * 1000000 as bigint) as value_micro,
        valid_from,
        valid_to
    from contact_attributes

    {%- for column in ['engaged_person_count', 'engaged_function_count', 'buying_group_pct'] %}
    {%- for is_rolled_up in [false, true] %}

    union all

    select
        account_id,
        '{{ rolled_up(column) if is_rolled_up else column }}' as attribute,
        cast({{ column }} as {{ dbt.type_string() }}) as value_text,
        cast({{ column }} * 1000000 as bigint) as value_micro,
        valid_from,
        valid_to
    from {{ ref('int_buying_groups') }}
    where {{ column }} is not null and {{ '' if is_rolled_up else 'not ' }}is_rolled_up
    {%- endfor %}
    {%- endfor %}

    union all

    select
        account_id,
        'nps_score' as attribute,
        cast(floor(nps_score * 10 + 0.5) / 10 as {{ dbt.type_string() }}) as value_text,
        cast(floor(nps_score * 1000000 + 0.5) as bigint) as value_micro,
        valid_from,
        coalesce(lead(valid_from) over (partition by account_id order by valid_from), {{ end_of_time() }}) as valid_to
    from nps_answers
    {%- for column in ['market_growth_pct', 'digital_spend_pct'] %}

    union all

    select
        versions.account_id,
        '{{ column }}' as attribute,
        cast(benchmarks.{{ column }} as {{ dbt.type_string() }}) as value_text,
        cast(cast(benchmarks.{{ column }} as decimal(28, 6)) * 1000000 as bigint) as value_micro,
        greatest(versions.valid_from, benchmarks.valid_from) as valid_from,
        least(versions.valid_to, benchmarks.valid_to) as valid_to
    from versions
    inner join benchmarks
        on
            lower(trim(versions.industry)) = benchmarks.industry
            and versions.valid_from < benchmarks.valid_to
            and benchmarks.valid_from < versions.valid_to
    where benchmarks.{{ column }} is not null
    {%- endfor %}
)

select attributes.*
from attributes
inner join needed on attributes.attribute = needed.attribute
where attributes.valid_from <= {{ as_of_at() }}
