-- Of each person, or account where only that is known, the newest answer; by month all answers of the month.
with answers as (
    select
        answers.answer_id,
        answers.answered_at,
        answers.nps_score,
        coalesce(touchpoints.contact_id, touchpoints.account_id, lower(trim(answers.email)), answers.answer_id) as respondent,
        accounts.segment,
        accounts.cell
    from {{ ref('stg_survey__nps_answers') }} as answers
    left join {{ ref('int_survey_touchpoints') }} as touchpoints on answers.answer_id = touchpoints.answer_id
    left join {{ ref('scored_accounts') }} as accounts on touchpoints.account_id = accounts.account_id
),

ranked as (
    select
        answers.*,
        row_number() over (partition by respondent order by answered_at desc nulls last, answer_id desc nulls last) as newest_first
    from answers
),

grouped as (
    select
        'all' as group_by,
        'all' as group_value,
        nps_score
    from ranked
    where newest_first = 1

    union all

    select
        'segment' as group_by,
        case when segment is null then 'not scored' when segment = '' then 'everybody' else segment end as group_value,
        nps_score
    from ranked
    where newest_first = 1

    union all

    select
        'cell' as group_by,
        coalesce(cell, 'not scored') as group_value,
        nps_score
    from ranked
    where newest_first = 1

    union all

    select
        'month' as group_by,
        cast(cast({{ dbt.date_trunc('month', 'answered_at') }} as date) as {{ dbt.type_string() }}) as group_value,
        nps_score
    from answers
),

counted as (
    select
        group_by,
        group_value,
        count(*) as answer_count,
        cast(sum(case when nps_score >= 9 then 1 else 0 end) as bigint) as promoter_count,
        cast(sum(case when nps_score between 7 and 8 then 1 else 0 end) as bigint) as passive_count,
        cast(sum(case when nps_score <= 6 then 1 else 0 end) as bigint) as detractor_count
    from grouped
    group by group_by, group_value
),

rated as (
    select
        counted.*,
        1.0e0 * (promoter_count - detractor_count) / answer_count as net_share,
        1.0e0 * (promoter_count + detractor_count) / answer_count as decided_share
    from counted
)

-- The mean of +1, 0 and -1, with the interval of a mean: z of 90 % is 1.6448536269514722. Fewer than ten answers have none.
select
    group_by,
    group_value,
    answer_count,
    promoter_count,
    passive_count,
    detractor_count,
    cast(100 * net_share as double) as nps,
    case
        when answer_count >= 10
            then
                cast(
                    100 * (
                        net_share - 1.6448536269514722e0
                        * sqrt(greatest(decided_share - net_share * net_share, 0) / (answer_count - 1))
                    ) as double
                )
    end as nps_low,
    case
        when answer_count >= 10
            then
                cast(
                    100 * (
                        net_share + 1.6448536269514722e0
                        * sqrt(greatest(decided_share - net_share * net_share, 0) / (answer_count - 1))
                    ) as double
                )
    end as nps_high
from rated
