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

-- Criteria of all versions and segments are numbered: joins on whole numbers cost a third of those on names.
criteria as (
    select
        row_number() over (order by scorecard_version, criterion_key) as criterion_no,
        scorecard_version,
        criterion_key,
        max(case when band_type = 'missing' then band_no end) as missing_band_no,
        max(case when band_type = 'other' then band_no end) as other_band_no
    from bands
    group by scorecard_version, criterion_key
),

ranges as (
    select
        criteria.criterion_no,
        bands.band_no,
        bands.lower_micro,
        bands.upper_micro
    from bands
    inner join criteria
        on bands.scorecard_version = criteria.scorecard_version and bands.criterion_key = criteria.criterion_key
    where bands.band_type = 'range' and bands.segment = ''
),

band_values as (
    select
        criteria.criterion_no,
        listed.value,
        listed.band_no
    from {{ source('settings', card ~ '_band_values') }} as listed
    inner join criteria
        on listed.scorecard_version = criteria.scorecard_version and listed.criterion_key = criteria.criterion_key
),

segments as (
    select
        row_number() over (order by listed.scorecard_version, listed.segment) as segment_no,
        listed.scorecard_version,
        listed.segment,
        criteria.criterion_no,
        listed.band_no
    from {{ source('settings', card ~ '_segments') }} as listed
    inner join criteria
        on listed.scorecard_version = criteria.scorecard_version and listed.criterion_key = criteria.criterion_key
),

pairs as (
    select
        pair.criterion_no,
        pair.other_band_no,
        left_side.criterion_no as left_no,
        right_side.criterion_no as right_no
    from {{ source('settings', card ~ '_pairs') }} as listed
    inner join criteria as pair
        on listed.scorecard_version = pair.scorecard_version and listed.criterion_key = pair.criterion_key
    inner join criteria as left_side
        on listed.scorecard_version = left_side.scorecard_version and listed.left_key = left_side.criterion_key
    inner join criteria as right_side
        on listed.scorecard_version = right_side.scorecard_version and listed.right_key = right_side.criterion_key
),

sides as (
    select left_no as criterion_no from pairs
    union
    select right_no as criterion_no from pairs
),

segment_criteria as (
    select distinct
        scorecard_version,
        criterion_no
    from segments
),

located_sides as (
    {{ _located(features, 'sides') }}
),

{%- if segments_from is none %}

located_segments as (
    {{ _located(features, 'segment_criteria') }}
),

spine_segments as (
    select
        located_segments.spine_id,
        segments.scorecard_version,
        segments.segment_no
    from located_segments
    inner join segments
        on located_segments.criterion_no = segments.criterion_no and located_segments.band_no = segments.band_no
),
{%- else %}

spine_segments as (
    select
        given.spine_id,
        segments.scorecard_version,
        segments.segment_no
    from {{ segments_from }} as given
    inner join segments on given.scorecard_version = segments.scorecard_version and given.segment = segments.segment
),
{%- endif %}

pair_values as (
    select
        left_side.spine_id,
        pairs.criterion_no,
        pairs.other_band_no,
        case
            when left_side.value_text is not null or right_side.value_text is not null
                then coalesce(left_side.value_text, 'missing') || ' & ' || coalesce(right_side.value_text, 'missing')
        end as value_text,
        cast(left_side.band_no as {{ dbt.type_string() }})
        || '|' || cast(right_side.band_no as {{ dbt.type_string() }}) as pair_value
    from pairs
    inner join located_sides as left_side on pairs.left_no = left_side.criterion_no
    inner join located_sides as right_side
        on pairs.right_no = right_side.criterion_no and left_side.spine_id = right_side.spine_id
),

located as (
    {{ _located(features, 'criteria') }}

    union all

    select
        pair_values.spine_id,
        pair_values.criterion_no,
        pair_values.value_text,
        coalesce(band_values.band_no, pair_values.other_band_no) as band_no
    from pair_values
    left join band_values
        on pair_values.criterion_no = band_values.criterion_no and pair_values.pair_value = band_values.value
),

spine_segment_names as (
    select
        scorecard_version,
        cast(0 as bigint) as segment_no,
        '' as segment
    from criteria
    group by scorecard_version

    union all

    select
        scorecard_version,
        segment_no,
        segment
    from segments
),

-- Each segment's own row of a band, or else the one for everybody.
applicable as (
    select
        spine_segment_names.segment_no,
        criteria.criterion_no,
        everybody.scorecard_version,
        coalesce(own.segment, everybody.segment) as segment,
        everybody.criterion,
        everybody.kind,
        everybody.band_no,
        everybody.band,
        cast(coalesce(own.points, everybody.points) as bigint) as points,
        coalesce(own.is_pinned, everybody.is_pinned) as is_pinned
    from bands as everybody
    inner join criteria
        on
            everybody.scorecard_version = criteria.scorecard_version
            and everybody.criterion_key = criteria.criterion_key
    inner join spine_segment_names on everybody.scorecard_version = spine_segment_names.scorecard_version
    left join bands as own
        on
            everybody.scorecard_version = own.scorecard_version
            and spine_segment_names.segment = own.segment
            and everybody.criterion_key = own.criterion_key
            and everybody.band_no = own.band_no
    where everybody.segment = ''
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
    applicable.points,
    applicable.is_pinned
from located
{%- if card == 'scorecard' %}
left join spine_segments on located.spine_id = spine_segments.spine_id
{%- else %}
inner join criteria on located.criterion_no = criteria.criterion_no
left join spine_segments
    on located.spine_id = spine_segments.spine_id and criteria.scorecard_version = spine_segments.scorecard_version
{%- endif %}
inner join applicable
    on
        located.criterion_no = applicable.criterion_no
        and located.band_no = applicable.band_no
        and coalesce(spine_segments.segment_no, 0) = applicable.segment_no
{% endmacro %}

{# The band of each feature of the criteria that `chosen` has, by the rules that points_of has named before. #}
{% macro _located(features, chosen) -%}
    select
        features.spine_id,
        criteria.criterion_no,
        features.value_text,
        case
            when features.value_text is null then criteria.missing_band_no
            else coalesce(ranges.band_no, band_values.band_no, criteria.other_band_no)
        end as band_no
    from (
        {%- for relation in features %}
        select * from {{ relation }}
        {%- if not loop.last %}
        union all
        {%- endif %}
        {%- endfor %}
    ) as features
    inner join criteria on features.criterion_key = criteria.criterion_key
    {%- if chosen != 'criteria' %}
    inner join {{ chosen }} as chosen on criteria.criterion_no = chosen.criterion_no
    {%- endif %}
    left join ranges
        on
            criteria.criterion_no = ranges.criterion_no
            and features.value_micro >= ranges.lower_micro
            and features.value_micro < ranges.upper_micro
    left join band_values
        on criteria.criterion_no = band_values.criterion_no and features.value_text = band_values.value
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
    A grade or level that does not flap: the one of the last recorded day, unless the points are so many past its limit. grade_of:
    fit_grade or engagement_level; of both the better one sorts first.

    With more points than it has the account would be in `best`, with fewer in `worst`: it keeps its place as long as that lies between
    the two, and otherwise goes as far as it must. Without hysteresis the two are equal, and nothing of the past remains.
#}
{% macro held(grade_of, points, card, previous, hysteresis) -%}
    case
        when {{ previous }} is null then {{ grade_of(points, card) }}
        else
            least(
                greatest({{ previous }}, {{ grade_of(points ~ ' + ' ~ hysteresis, card) }}),
                {{ grade_of(points ~ ' - ' ~ hysteresis, card) }}
            )
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

{# What a deal with an account opened now would bring, on average; deal_amount: of `int_accounts__deal_values`. #}
{% macro expected_value(win_probability, deal_amount) -%}
    cast({{ win_probability }} * cast({{ deal_amount }} as double) as decimal(18, 2))
{%- endmacro %}
