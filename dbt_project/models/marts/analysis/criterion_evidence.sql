with evidence as (
    select * from {{ source('settings', 'scorecard_criteria') }}
),

-- A criterion may break several rules; the first by name stands for them.
leaks as (
    select
        criterion,
        evidence,
        is_left_out,
        row_number() over (partition by criterion order by rule) as rule_no
    from {{ source('settings', 'scorecard_leaks') }}
),

criteria as (
    select criterion from evidence
    union
    select criterion from leaks
),

in_the_card as (
    select
        criterion,
        max(kind) as kind
    from {{ source('settings', 'scorecard_bands') }}
    group by criterion
)

select
    criteria.criterion,
    coalesce(evidence.kind, in_the_card.kind) as kind,
    in_the_card.criterion is not null as is_in_the_card,
    leaks.evidence as leak,
    evidence.deal_count,
    evidence.auc,
    evidence.auc_low,
    evidence.auc_high,
    evidence.information_value,
    evidence.p_value,
    evidence.q_value,
    evidence.is_significant,
    evidence.importance_share_pct,
    evidence.belief,
    evidence.belief_p_value,
    evidence.sentence,
    card.scorecard_version
from criteria
cross join {{ source('settings', 'scorecard') }} as card
left join evidence on criteria.criterion = evidence.criterion
left join leaks on criteria.criterion = leaks.criterion and leaks.rule_no = 1
left join in_the_card on criteria.criterion = in_the_card.criterion
