with bands as (
    select
        criterion,
        max(kind) as kind
    from {{ source('settings', 'scorecard_bands') }}
    group by criterion
)

select
    evidence.criterion,
    bands.kind,
    bands.criterion is not null as is_in_the_card,
    evidence.deal_count,
    evidence.auc,
    evidence.information_value,
    evidence.p_value,
    evidence.q_value,
    evidence.is_significant,
    evidence.sanity,
    evidence.scorecard_version
from {{ source('settings', 'scorecard_criteria') }} as evidence
left join bands on evidence.criterion = bands.criterion
