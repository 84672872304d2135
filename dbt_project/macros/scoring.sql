{#
    Features x active card = points. The one place where a value meets a band.

    features: a list of relations as explicit_features and implicit_features make them.
    Result: spine_id, criterion, kind, value (text), band_no, band, points.
#}
{% macro points_of(features) %}
with features as (
    {%- for relation in features %}
    select * from {{ relation }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

bands as (
    select * from {{ source('settings', 'scorecard_bands') }}
),

criteria as (
    select
        criterion_key,
        max(case when band_type = 'missing' then band_no end) as missing_band_no,
        max(case when band_type = 'other' then band_no end) as other_band_no
    from bands
    group by criterion_key
),

ranges as (
    select
        criterion_key,
        band_no,
        lower_micro,
        upper_micro
    from bands
    where band_type = 'range'
),

band_values as (
    select * from {{ source('settings', 'scorecard_band_values') }}
),

located as (
    select
        features.spine_id,
        features.criterion_key,
        features.value_text,
        case
            when features.value_text is null then criteria.missing_band_no
            else coalesce(ranges.band_no, band_values.band_no, criteria.other_band_no)
        end as band_no
    from features
    inner join criteria on features.criterion_key = criteria.criterion_key
    left join ranges
        on
            features.criterion_key = ranges.criterion_key
            and features.value_micro >= ranges.lower_micro
            and features.value_micro < ranges.upper_micro
    left join band_values
        on features.criterion_key = band_values.criterion_key and features.value_text = band_values.value
)

select
    located.spine_id,
    bands.criterion,
    bands.kind,
    located.value_text as value,
    bands.band_no,
    bands.band,
    cast(bands.points as bigint) as points
from located
inner join bands on located.criterion_key = bands.criterion_key and located.band_no = bands.band_no
{% endmacro %}

{# The win probability of whole points: the calibration curve of the active card. z moves along its standard error. #}
{% macro win_probability(points, card, z=0) -%}
    1.0 / (1.0 + exp(-(
        {{ card }}.calibration_intercept + {{ card }}.calibration_slope * ({{ points }})
        {%- if z != 0 %}
        + ({{ z }}) * sqrt(greatest(
            {{ card }}.calibration_var_intercept
            + 2.0 * ({{ points }}) * {{ card }}.calibration_covariance
            + 1.0 * ({{ points }}) * ({{ points }}) * {{ card }}.calibration_var_slope,
            0.0
        ))
        {%- endif %}
    )))
{%- endmacro %}

{# The cell of fit and engagement points, by the thresholds of the active card. #}
{% macro fit_grade(points, card) -%}
    case
        when {{ points }} >= {{ card }}.grade_a_min_points then 'A'
        when {{ points }} >= {{ card }}.grade_b_min_points then 'B'
        when {{ points }} >= {{ card }}.grade_c_min_points then 'C'
        else 'D'
    end
{%- endmacro %}

{% macro engagement_level(points, card) -%}
    case
        when {{ points }} >= {{ card }}.level_1_min_points then '1'
        when {{ points }} >= {{ card }}.level_2_min_points then '2'
        when {{ points }} >= {{ card }}.level_3_min_points then '3'
        else '4'
    end
{%- endmacro %}

{#
    Wilson's score interval at 90 % for a share of wins (Wilson 1927, J. Am. Stat. Assoc. 22). side: -1 low, 1 high.

    z = 1.6448536269514722; the other constants are z^2 / 2, z^2 / 4 and z^2, written as doubles to their last digit: rounded ones
    give a share below zero where nothing was won. The limits 0 and 1 catch what the last bit still leaves.
#}
{% macro wilson(wins, total, side) -%}
    case
        when {{ total }} > 0 then
            least(greatest(
                (
                    {{ wins }} + 1.3527717270477064e0
                    + ({{ side }}) * 1.6448536269514722e0 * sqrt(
                        1.0e0 * {{ wins }} * ({{ total }} - {{ wins }}) / {{ total }} + 0.6763858635238532e0
                    )
                ) / ({{ total }} + 2.705543454095413e0),
                0.0e0
            ), 1.0e0)
    end
{%- endmacro %}
