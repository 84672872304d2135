with card as (
    select * from {{ source('settings', 'scorecard') }}
),

refresh as (
    select * from {{ source('settings', 'refresh') }}
),

health as (
    select * from {{ source('settings', 'health') }}
),

limits as (
    select * from {{ source('settings', 'health_limits') }}
),

-- How the accounts are spread over the bands, at the fit and now. The rows for everybody count all accounts, also those of segments.
bands as (
    select
        criterion,
        band_no,
        band_type,
        account_count as then_count
    from {{ source('settings', 'scorecard_bands') }}
    where segment = ''
),

counted_now as (
    select
        criterion,
        band_no,
        count(*) as now_count
    from {{ ref('int_accounts__points') }}
    group by criterion, band_no
),

spread as (
    select
        bands.criterion,
        bands.band_type,
        bands.then_count,
        coalesce(counted_now.now_count, 0) as now_count,
        sum(bands.then_count) over (partition by bands.criterion) as then_total,
        sum(coalesce(counted_now.now_count, 0)) over (partition by bands.criterion) as now_total,
        count(*) over (partition by bands.criterion) as band_count
    from bands
    left join counted_now on bands.criterion = counted_now.criterion and bands.band_no = counted_now.band_no
),

-- Half an account in every band keeps the logarithm finite where a band was or has become empty.
shares as (
    select
        spread.*,
        (then_count + 0.5e0) / (then_total + 0.5e0 * band_count) as then_share,
        (now_count + 0.5e0) / (now_total + 0.5e0 * band_count) as now_share
    from spread
),

drift as (
    select
        criterion,
        max(then_total) as then_total,
        max(now_total) as now_total,
        max(band_count) as band_count,
        -- In billionths: the sum of floats would depend on the order of the rows.
        sum(cast(floor((now_share - then_share) * ln(now_share / then_share) * 1000000000 + 0.5e0) as bigint)) / 1000000000e0
            as psi,
        100e0 * sum(case when band_type = 'missing' then now_count else 0 end) / nullif(max(now_total), 0) as now_missing_pct,
        100e0 * sum(case when band_type = 'missing' then then_count else 0 end) / nullif(max(then_total), 0) as then_missing_pct,
        max(case when band_type = 'missing' then 1 else 0 end) as has_missing_band
    from shares
    group by criterion
),

-- Deals that closed after the fit, and not so long ago.
recent_deals as (
    select
        cast(floor(scored.total_points / 20.0) * 20 as bigint) as points_from,
        scored.is_won,
        cast(floor(scored.win_probability * 1000000000 + 0.5e0) as bigint) as expected_nano,
        cast(floor(scored.win_probability * (1 - scored.win_probability) * 1000000000 + 0.5e0) as bigint) as variance_nano
    from {{ ref('int_deals__scored') }} as scored
    cross join card
    cross join refresh
    cross join health
    where
        scored.is_won is not null
        and not scored.is_out_of_fold
        and scored.closed_at > card.fitted_at
        and {{ days_between('cast(scored.closed_at as date)', 'refresh.as_of_date') }} < health.recent_days
),

outcomes as (
    select
        'score_band' as check_name,
        cast(points_from as {{ dbt.type_string() }}) || ' to ' || cast(points_from + 19 as {{ dbt.type_string() }}) || ' points'
            as subject,
        count(*) as deal_count,
        sum(is_won) as won_count,
        sum(expected_nano) as expected_nano,
        sum(variance_nano) as variance_nano
    from recent_deals
    group by points_from

    union all

    select
        'calibration' as check_name,
        'all recent deals' as subject,
        count(*) as deal_count,
        coalesce(sum(is_won), 0) as won_count,
        coalesce(sum(expected_nano), 0) as expected_nano,
        coalesce(sum(variance_nano), 0) as variance_nano
    from recent_deals
),

-- Days on which a source recorded anything, and the silences between them.
recorded as (
    select distinct
        source,
        event_date
    from {{ ref('int_signals__daily') }}
),

silences as (
    select
        source,
        event_date,
        {{ days_between('lag(event_date) over (partition by source order by event_date)', 'event_date') }} as silent_days
    from recorded
),

rhythms as (
    select
        source,
        max(event_date) as last_date,
        count(silent_days) as silence_count,
        percentile_cont(0.99) within group (order by silent_days) as usual_days
    from silences
    group by source
),

measured as (
    select
        'psi' as check_name,
        drift.criterion as subject,
        case when drift.then_total >= health.least_accounts and drift.now_total >= health.least_accounts then drift.psi end
            as value,
        1e0 as limit_unit,
        case
            when drift.then_total is null then 'the accounts were not counted at the fit'
            else
                {{ rounded('drift.psi', 3) }} || ' over ' || cast(drift.band_count as {{ dbt.type_string() }}) || ' bands: '
                || cast(drift.then_total as {{ dbt.type_string() }}) || ' accounts at the fit, '
                || cast(drift.now_total as {{ dbt.type_string() }}) || ' now'
        end as message
    from drift
    cross join health

    union all

    select
        'missing_change' as check_name,
        drift.criterion as subject,
        case
            when drift.then_total >= health.least_accounts and drift.now_total >= health.least_accounts
                then drift.now_missing_pct - drift.then_missing_pct
        end as value,
        1e0 as limit_unit,
        case
            when drift.then_total is null then 'the accounts were not counted at the fit'
            else
                {{ rounded('drift.then_missing_pct', 1) }} || ' % of the accounts had no value at the fit, '
                || {{ rounded('drift.now_missing_pct', 1) }} || ' % have none now'
        end as message
    from drift
    cross join health
    where drift.has_missing_band = 1

    union all

    select
        outcomes.check_name,
        outcomes.subject,
        case
            when outcomes.deal_count >= health.least_deals
                then
                    (outcomes.won_count - outcomes.expected_nano / 1000000000e0)
                    / nullif(sqrt(outcomes.variance_nano / 1000000000e0), 0)
        end as value,
        1e0 as limit_unit,
        case
            when outcomes.deal_count = 0 then 'no deal has closed since the fit'
            else
                cast(outcomes.won_count as {{ dbt.type_string() }}) || ' of '
                || cast(outcomes.deal_count as {{ dbt.type_string() }}) || ' deals closed since the fit were won: '
                || {{ rounded('100e0 * outcomes.won_count / outcomes.deal_count', 1) }} || ' % (90 % interval '
                || {{ rounded('100e0 * ' ~ wilson('outcomes.won_count', 'outcomes.deal_count', -1), 1) }} || ' to '
                || {{ rounded('100e0 * ' ~ wilson('outcomes.won_count', 'outcomes.deal_count', 1), 1) }}
                || ' %); the card expected ' || {{ rounded('outcomes.expected_nano / 10000000e0 / outcomes.deal_count', 1) }} || ' %'
        end as message
    from outcomes
    cross join health

    union all

    select
        'silence' as check_name,
        rhythms.source as subject,
        case
            when rhythms.silence_count >= 20
                then cast({{ days_between('rhythms.last_date', 'refresh.as_of_date') }} as double)
        end as value,
        greatest(cast(rhythms.usual_days as double), cast(health.silence_least_days as double)) as limit_unit,
        'nothing since ' || cast(rhythms.last_date as {{ dbt.type_string() }}) || ', for '
        || cast({{ days_between('rhythms.last_date', 'refresh.as_of_date') }} as {{ dbt.type_string() }})
        || ' days; 99 of 100 of its ' || cast(rhythms.silence_count as {{ dbt.type_string() }})
        || ' silences so far lasted ' || coalesce({{ rounded('rhythms.usual_days', 1) }}, '0') || ' days or less' as message
    from rhythms
    cross join refresh
    cross join health

    union all

    select
        'card_age' as check_name,
        card.scorecard_version as subject,
        cast({{ days_between('cast(card.fitted_at as date)', 'refresh.as_of_date') }} as double) as value,
        1e0 as limit_unit,
        'fitted on what was known on ' || cast(cast(card.fitted_at as date) as {{ dbt.type_string() }}) as message
    from card
    cross join refresh
),

limited as (
    select
        measured.check_name,
        measured.subject,
        cast(measured.value as double) as measured_value,
        measured.limit_unit * limits.warn_limit as warn_limit,
        measured.limit_unit * limits.fail_limit as fail_limit,
        measured.message
    from measured
    inner join limits on measured.check_name = limits.check_name
)

select
    limited.check_name,
    limited.subject,
    limited.measured_value,
    limited.warn_limit,
    limited.fail_limit,
    case
        when limited.measured_value is null then 'unknown'
        when abs(limited.measured_value) > limited.fail_limit then 'fail'
        when abs(limited.measured_value) > limited.warn_limit then 'warn'
        else 'ok'
    end as status,
    limited.message,
    card.scorecard_version
from limited
cross join card
