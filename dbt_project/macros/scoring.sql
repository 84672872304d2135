{#
    Features x card = points. The one place where a value meets a band.

    features: a list of relations as explicit_features and implicit_features make them.
    card: `scorecard`, the active version, or `shadow_scorecard`, any number of others.
    segments_from: a relation (spine_id, scorecard_version, segment) where the segment is not one of the spine's own features,
    as a person's is that of its account.
    Result: spine_id, scorecard_version, segment (of the row that scored; empty: everybody), criterion, kind, value (text), band_no,
    band, points, is_pinned.

    A pair's value is made of the bands of its two criteria. A spine in a segment is scored by that segment's rows, and where it
    has none by those for everybody. Only the few criteria that pairs and segments need are located twice: keeping all of
    them for a second look would cost a gigabyte per million accounts.
#}
{% macro points_of(features, card='scorecard', segments_from=none) %}
with bands as (
    select * from {{ source('settings', card ~ '_bands') }}
),

band_values as (
    select * from {{ source('settings', card ~ '_band_values') }}
),

segments as (
    select * from {{ source('settings', card ~ '_segments') }}
),

pairs as (
    select * from {{ source('settings', card ~ '_pairs') }}
),

criteria as (
    select
        scorecard_version,
        criterion_key,
        max(case when band_type = 'missing' then band_no end) as missing_band_no,
        max(case when band_type = 'other' then band_no end) as other_band_no
    from bands
    group by scorecard_version, criterion_key
),

ranges as (
    select
        scorecard_version,
        criterion_key,
        band_no,
        lower_micro,
        upper_micro
    from bands
    where band_type = 'range' and segment = ''
),

needed_keys as (
    select left_key as criterion_key from pairs
    union
    select right_key as criterion_key from pairs
    union
    select criterion_key from segments
),

needed as (
    select features.*
    from ({{ _all_of(features) }}) as features
    inner join needed_keys on features.criterion_key = needed_keys.criterion_key
),

needed_located as (
    {{ _located('needed') }}
),

spine_segments as (
    {%- if segments_from is none %}
    select
        needed_located.spine_id,
        segments.scorecard_version,
        segments.segment
    from segments
    inner join needed_located
        on
            segments.scorecard_version = needed_located.scorecard_version
            and segments.criterion_key = needed_located.criterion_key
            and segments.band_no = needed_located.band_no
    {%- else %}
    select
        spine_id,
        scorecard_version,
        segment
    from {{ segments_from }}
    {%- endif %}
),

pair_values as (
    select
        left_side.spine_id,
        pairs.scorecard_version,
        pairs.criterion_key,
        case
            when left_side.value_text is not null or right_side.value_text is not null
                then coalesce(left_side.value_text, 'missing') || ' & ' || coalesce(right_side.value_text, 'missing')
        end as value_text,
        cast(left_side.band_no as {{ dbt.type_string() }})
        || '|' || cast(right_side.band_no as {{ dbt.type_string() }}) as pair_value
    from pairs
    inner join needed_located as left_side
        on pairs.scorecard_version = left_side.scorecard_version and pairs.left_key = left_side.criterion_key
    inner join needed_located as right_side
        on
            pairs.scorecard_version = right_side.scorecard_version
            and pairs.right_key = right_side.criterion_key
            and left_side.spine_id = right_side.spine_id
),

located as (
    {{ _located('(' ~ _all_of(features) ~ ')') }}

    union all

    select
        pair_values.spine_id,
        pair_values.scorecard_version,
        pair_values.criterion_key,
        pair_values.value_text,
        coalesce(band_values.band_no, criteria.other_band_no) as band_no
    from pair_values
    inner join criteria
        on
            pair_values.scorecard_version = criteria.scorecard_version
            and pair_values.criterion_key = criteria.criterion_key
    left join band_values
        on
            pair_values.scorecard_version = band_values.scorecard_version
            and pair_values.criterion_key = band_values.criterion_key
            and pair_values.pair_value = band_values.value
),

spine_segment_names as (
    select
        scorecard_version,
        '' as segment
    from criteria

    union

    select
        scorecard_version,
        segment
    from segments
),

-- Each segment's own row of a band, or else the one for everybody.
applicable as (
    select
        spine_segment_names.segment as spine_segment,
        everybody.scorecard_version,
        coalesce(own.segment, everybody.segment) as segment,
        everybody.criterion_key,
        everybody.criterion,
        everybody.kind,
        everybody.band_no,
        everybody.band,
        coalesce(own.points, everybody.points) as points,
        coalesce(own.is_pinned, everybody.is_pinned) as is_pinned
    from spine_segment_names
    inner join bands as everybody
        on spine_segment_names.scorecard_version = everybody.scorecard_version and everybody.segment = ''
    left join bands as own
        on
            everybody.scorecard_version = own.scorecard_version
            and spine_segment_names.segment = own.segment
            and everybody.criterion_key = own.criterion_key
            and everybody.band_no = own.band_no
)

select
    located.spine_id,
    applicable.scorecard_version,
    applicable.segment,
    applicable.criterion,
    applicable.kind,
    located.value_text as value,
    applicable.band_no,
    applicable.band,
    cast(applicable.points as bigint) as points,
    applicable.is_pinned
from located
left join spine_segments
    on located.spine_id = spine_segments.spine_id and located.scorecard_version = spine_segments.scorecard_version
inner join applicable
    on
        located.criterion_key = applicable.criterion_key
        and located.band_no = applicable.band_no
        and located.scorecard_version = applicable.scorecard_version
        and coalesce(spine_segments.segment, '') = applicable.spine_segment
{% endmacro %}

{% macro _all_of(relations) -%}
    {%- for relation in relations %}
    select * from {{ relation }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
{%- endmacro %}

{# The band of each feature, by the rules that points_of has named before. #}
{% macro _located(features) -%}
    select
        features.spine_id,
        criteria.scorecard_version,
        features.criterion_key,
        features.value_text,
        case
            when features.value_text is null then criteria.missing_band_no
            else coalesce(ranges.band_no, band_values.band_no, criteria.other_band_no)
        end as band_no
    from {{ features }} as features
    inner join criteria on features.criterion_key = criteria.criterion_key
    left join ranges
        on
            features.criterion_key = ranges.criterion_key
            and criteria.scorecard_version = ranges.scorecard_version
            and features.value_micro >= ranges.lower_micro
            and features.value_micro < ranges.upper_micro
    left join band_values
        on
            features.criterion_key = band_values.criterion_key
            and criteria.scorecard_version = band_values.scorecard_version
            and features.value_text = band_values.value
{%- endmacro %}

{# The entry of a card's calibration table for these points: those beyond an end are taken for that end's. #}
{% macro calibrated_points(points, card) -%}
    least(greatest({{ points }}, {{ card }}.lowest_points), {{ card }}.highest_points)
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

{# A number as text with so many decimals, rounded half up in every engine. #}
{% macro rounded(number, decimals) -%}
    cast(cast(floor(({{ number }}) * {{ 10 ** decimals }} + 0.5e0) / {{ 10 ** decimals }} as decimal(18, {{ decimals }})) as {{ dbt.type_string() }})
{%- endmacro %}
