-- Mean answer of an account's people at each moment at which any came.
select
    touchpoints.account_id,
    touchpoints.known_at as valid_from,
    avg(answers.nps_score) as nps_score
from {{ ref('int_survey_touchpoints') }} as touchpoints
inner join {{ ref('stg_survey__nps_answers') }} as answers on touchpoints.answer_id = answers.answer_id
where touchpoints.account_id is not null
group by touchpoints.account_id, touchpoints.known_at
