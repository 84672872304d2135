-- Region and segment of every account at any time, without gaps, by which sums of deals are divided. Deals without an account have
-- a row, so that joining loses none. Regions are those that the records have; where no account has one, countries.
{%- set categories = [
    'industry', 'country', 'region', 'city', 'account_type', 'lifecycle_stage', 'lead_source', 'owner_id', 'parent_account_id',
] %}

with versions as (
    select * from {{ ref('stg_crm__account_versions') }}
    where valid_from <= {{ as_of_at() }}
),

chosen as (
    select segment_by from {{ source('settings', 'account_groups') }}
),

regions as (
    select max(case when trim(region) <> '' then 1 else 0 end) as are_known
    from versions
),

custom_fields as (
    select
        fields._file,
        fields._row,
        fields.value
    from {{ ref('stg_crm__account_custom_fields') }} as fields
    inner join chosen on chosen.segment_by = 'custom.' || fields.field
),

named as (
    select
        versions.account_id,
        versions.valid_from,
        versions.valid_to,
        coalesce(nullif(trim(case when regions.are_known = 1 then versions.region else versions.country end), ''), '(none)') as region,
        coalesce(
            nullif(
                trim(
                    case chosen.segment_by
                        {%- for column in categories %}
                        when '{{ column }}' then versions.{{ column }}
                        {%- endfor %}
                        else custom_fields.value
                    end
                ),
                ''
            ),
            '(none)'
        ) as segment
    from versions
    cross join regions
    cross join chosen
    left join custom_fields on versions._file = custom_fields._file and versions._row = custom_fields._row
),

-- Versions that differ in neither are one row.
compared as (
    select
        named.*,
        lag(region) over (partition by account_id order by valid_from) as region_before,
        lag(segment) over (partition by account_id order by valid_from) as segment_before
    from named
),

begun as (
    select
        account_id,
        region,
        segment,
        valid_from
    from compared
    where region_before is null or region <> region_before or segment <> segment_before
)

select
    account_id,
    region,
    segment,
    valid_from,
    coalesce(lead(valid_from) over (partition by account_id order by valid_from), {{ end_of_time() }}) as valid_to
from begun

union all

select
    '(none)' as account_id,
    '(none)' as region,
    '(none)' as segment,
    {{ beginning_of_time() }} as valid_from,
    {{ end_of_time() }} as valid_to
