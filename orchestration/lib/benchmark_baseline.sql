-- The demo company scored by one hand-written script: what `scoring benchmark` compares a refresh with.
--
-- It reads the same landed Parquet files, matches visitors, contacts and accounts, measures every criterion of the active
-- card for every account now and for every deal as of its opening, and writes scored accounts, contributions and deals. It is
-- written for this one company and for speed: identifiers become numbers, both kinds of spine go through one pass, nothing
-- is kept between runs. What it leaves out is listed in docs/benchmark.md.
--
-- Given from outside: the variables landing (directory) and as_of_at (naive UTC), the table public_domain(domain), and the
-- attached database `scored` that the results go to.

-- The active card ---------------------------------------------------------------------------------------------------------------

create temp table card as
with decision as (
    select content ->> 'scorecard_version' as version
    from read_text(getvariable('landing') || '/scoring/activations/*.json')
    where content ->> 'state' = 'active'
    order by filename desc
    limit 1
)
select version.content::json as document
from read_text(getvariable('landing') || '/scoring/scorecards/*.json') as version
inner join decision on version.content ->> 'scorecard_version' = decision.version;

create temp table criterion as
with listed as (
    select key as criterion, value -> '$.definition' as definition, null as left_criterion, null as right_criterion
    from card, json_each(document, '$.criteria')
    union all
    select pair ->> 'name', null, pair ->> 'left', pair ->> 'right'
    from (select unnest(document -> '$.card.pairs[*]') as pair from card)
),

kinds as (
    select distinct band ->> 'criterion' as criterion, band ->> 'kind' as kind
    from (select unnest(document -> '$.card.bands[*]') as band from card)
)

select
    row_number() over (order by listed.criterion)::integer as criterion_no,
    listed.criterion,
    kinds.kind,
    left_criterion,
    right_criterion,
    definition ->> '$.value_type' as value_type,
    definition ->> '$.attribute' as attribute,
    definition ->> '$.measure' as measure,
    definition -> '$.signals' as signals,
    coalesce((definition ->> '$.half_life_days')::integer, 0) as half_life_days,
    coalesce((definition ->> '$.window_days')::integer, 36500) as window_days,
    (coalesce((definition ->> '$.cap_per_day')::double, 1e6) * 1e3)::bigint as cap_per_day_milli,
    (coalesce((definition ->> '$.cap_per_person')::double, 1e9) * 1e6)::bigint as cap_per_person_micro
from listed
inner join kinds on listed.criterion = kinds.criterion;

-- Every signal that the card counts, as a small number; others only tell that an account is known.
create temp table signal_key as
select
    row_number() over (order by signal)::utinyint as signal_no,
    signal
from (select distinct unnest(json_keys(signals)) as signal from criterion where signals is not null);

create temp table signal as
select
    criterion.criterion_no,
    criterion.window_days,
    criterion.cap_per_day_milli,
    signal_key.signal_no,
    (entry.value::double * 1000)::bigint as multiplier_milli
from criterion, json_each(criterion.signals) as entry
inner join signal_key on entry.key = signal_key.signal
where criterion.signals is not null;

create temp table band as
with listed as (
    select unnest(document -> '$.card.bands[*]') as entry from card
)
select
    criterion.criterion_no,
    (entry ->> 'band_no')::integer as band_no,
    entry ->> 'band' as band,
    entry ->> 'band_type' as band_type,
    coalesce(((entry ->> 'lower')::decimal(28, 6) * 1000000)::bigint, -4611686018427387904) as lower_micro,
    coalesce(((entry ->> 'upper')::decimal(28, 6) * 1000000)::bigint, 4611686018427387904) as upper_micro,
    from_json(entry -> 'values', '["VARCHAR"]') as categories,
    (entry ->> 'points')::bigint as points
from listed
inner join criterion on entry ->> 'criterion' = criterion.criterion
where coalesce(entry ->> 'segment', '') = '';

create temp table calibration as
with listed as (
    select
        (document ->> '$.card.calibration.points_from')::bigint as points_from,
        from_json(document -> '$.card.calibration.probability', '["DOUBLE"]') as probability
    from card
)
select points_from + generate_subscripts(probability, 1) - 1 as points, unnest(probability) as win_probability
from listed;

-- Accounts, contacts and who is who ---------------------------------------------------------------------------------------------

create temp table account_version as
select
    account_id,
    account_name,
    owner_id,
    merged_into_account_id,
    lower(trim(domain)) as domain,
    lower(trim(industry)) as industry,
    lower(trim(account_type)) as account_type,
    lower(trim(lead_source)) as lead_source,
    lower(trim(country)) as country,
    lower(trim(tech_stack)) as tech_stack,
    lower(trim(lifecycle_stage)) as lifecycle_stage,
    employees,
    coalesce(is_customer, false) as is_customer,
    coalesce(is_suppressed, false) as is_suppressed,
    coalesce(is_disqualified, false) as is_disqualified,
    coalesce(is_deleted, false) as is_deleted,
    created_at,
    -- The first version also stands for the time before it.
    case when lag(updated_at) over (partition by account_id order by updated_at) is null then timestamp '1900-01-01' else updated_at end as valid_from,
    coalesce(lead(updated_at) over (partition by account_id order by updated_at), timestamp '9999-12-31') as valid_to
from (
    select *
    from read_parquet(
        getvariable('landing') || '/crm/accounts/*.parquet', filename = true, file_row_number = true, union_by_name = true
    )
    qualify row_number() over (partition by account_id, updated_at order by filename desc, file_row_number desc) = 1
);

create temp table account as
with known as (
    select * from account_version
    where valid_from <= getvariable('as_of_at') and valid_to > getvariable('as_of_at')
),

link as (
    select known.account_id, target.account_id as into_id
    from known
    inner join known as target on known.merged_into_account_id = target.account_id
    where known.account_id <> target.account_id
)

select
    row_number() over (order by known.account_id)::integer as account_no,
    known.*,
    coalesce(step_4.into_id, step_3.into_id, step_2.into_id, step_1.into_id, known.account_id) as surviving_id
from known
left join link as step_1 on known.account_id = step_1.account_id
left join link as step_2 on step_1.into_id = step_2.account_id
left join link as step_3 on step_2.into_id = step_3.account_id
left join link as step_4 on step_3.into_id = step_4.account_id;

-- Landed account -> the account that counts.
create temp table account_key as
select account.account_id, survivor.account_no
from account
inner join account as survivor on account.surviving_id = survivor.account_id;

create temp table domain_owner as
select account.domain, min(account_key.account_no) as account_no
from account
inner join account_key on account.account_id = account_key.account_id
where not account.is_deleted and account.domain <> ''
group by account.domain
having count(distinct account_key.account_no) = 1
    and account.domain not in (select domain from public_domain);

create temp table contact as
with landed as (
    select *
    from read_parquet(getvariable('landing') || '/crm/contacts/*.parquet', filename = true, file_row_number = true)
    qualify row_number() over (partition by contact_id order by updated_at desc, filename desc, file_row_number desc) = 1
),

link as (
    select landed.contact_id, target.contact_id as into_id
    from landed
    inner join landed as target on landed.merged_into_contact_id = target.contact_id
    where landed.contact_id <> target.contact_id
)

select
    row_number() over (order by landed.contact_id)::integer as contact_no,
    landed.contact_id,
    coalesce(step_2.into_id, step_1.into_id, landed.contact_id) as surviving_id,
    lower(trim(landed.email)) as email,
    lower(trim(landed.seniority)) as seniority,
    coalesce(landed.is_deleted, false) as is_deleted,
    landed.created_at,
    case when not coalesce(landed.is_deleted, false) then coalesce(account_key.account_no, domain_owner.account_no) end
        as account_no
from landed
left join link as step_1 on landed.contact_id = step_1.contact_id
left join link as step_2 on step_1.into_id = step_2.contact_id
left join account_key on landed.account_id = account_key.account_id
left join domain_owner on lower(split_part(landed.email, '@', 2)) = domain_owner.domain;

-- Landed contact -> the contact that counts, its account, and from when the link was known.
create temp table contact_key as
select
    contact.contact_id,
    contact.contact_no as landed_no,
    survivor.contact_no,
    contact.account_no,
    contact.created_at as known_at
from contact
inner join contact as survivor on contact.surviving_id = survivor.contact_id;

create temp table email_owner as
select email, arg_min(contact_no, (created_at, contact_id)) as landed_no
from contact
where email is not null and not is_deleted
group by email;

-- Touchpoints -------------------------------------------------------------------------------------------------------------------

create temp view web_file as
select * from read_parquet(
    getvariable('landing') || '/web/events/*.parquet', filename = true, file_row_number = true, union_by_name = true
)
where occurred_at <= getvariable('as_of_at');

create temp view email_file as
select * from read_parquet(
    getvariable('landing') || '/email/events/*.parquet', filename = true, file_row_number = true, union_by_name = true
)
where occurred_at <= getvariable('as_of_at');

-- Few events are delivered twice: they are found by their key alone, and only they are sorted.
create temp table repeated_web as
select event_id from web_file group by event_id having count(*) > 1;

create temp table repeated_email as
select event_id from email_file group by event_id having count(*) > 1;

-- Clicks that mail-security gateways made: at once, too soon, unopened, or from a crowded address.
create temp table gateway as
with act as (
    select
        event_id, event_type, occurred_at, message_id, coalesce(link_url, event_type) as link, email, ip_address,
        event_type = 'unsubscribed' or contains(coalesce(lower(link_url), ''), 'unsubscribe') as is_unsubscription,
        contains(coalesce(user_agent, ''), '(compatible; ') as is_suspicious
    from email_file
    where event_type in ('opened', 'clicked', 'unsubscribed')
),

crowded as (
    select ip_address, date_trunc('minute', occurred_at) as minute_at
    from act
    where ip_address is not null
    group by all
    having count(distinct lower(trim(email))) >= 5
),

near as (
    select one.event_id, count(distinct other.link) as links, bool_or(other.is_unsubscription) as leaves,
        bool_or(not other.is_unsubscription) as stays
    from act as one
    inner join act as other
        on one.message_id = other.message_id
            and abs(date_diff('second', one.occurred_at, other.occurred_at)) <= 10
    where one.event_type <> 'opened' and other.event_type <> 'opened'
    group by one.event_id
),

receipt as (
    select message_id, min(occurred_at) filter (where event_type = 'delivered') as delivered_at,
        min(occurred_at) filter (where event_type = 'opened') as opened_at
    from email_file
    group by message_id
)

select event_id from near where links >= 3 or (leaves and stays)
union
select act.event_id
from act
inner join receipt on act.message_id = receipt.message_id
where act.event_type <> 'opened' and (
    (act.occurred_at >= receipt.delivered_at and date_diff('second', receipt.delivered_at, act.occurred_at) <= 5)
    or (act.is_suspicious and coalesce(receipt.opened_at > act.occurred_at, true))
)
union
select act.event_id
from act
inner join crowded on act.ip_address = crowded.ip_address and date_trunc('minute', act.occurred_at) = crowded.minute_at;

create temp table web as
with once as (
    select event_type, occurred_at, visitor_id, contact_id, email, user_agent from web_file
    where event_id not in (select event_id from repeated_web)

    union all

    select event_type, occurred_at, visitor_id, contact_id, email, user_agent from web_file
    where event_id in (select event_id from repeated_web)
    qualify row_number() over (partition by event_id order by filename desc, file_row_number desc) = 1
)

select
    signal_key.signal_no,
    once.occurred_at,
    once.visitor_id,
    contains(coalesce(once.user_agent, ''), '(compatible; ') as is_crawler,
    coalesce(contact_key.landed_no, email_owner.landed_no) as landed_no
from once
left join signal_key on once.event_type = signal_key.signal
left join contact_key on once.contact_id = contact_key.contact_id
left join email_owner on lower(trim(once.email)) = email_owner.email;

create temp table visitor as
with identified as (
    select visitor_id, occurred_at, max(landed_no) as landed_no
    from web
    where landed_no is not null
    group by visitor_id, occurred_at
),

changed as (
    select *
    from identified
    qualify lag(landed_no) over (partition by visitor_id order by occurred_at) is distinct from landed_no
)

select
    visitor_id,
    landed_no,
    occurred_at as identified_at,
    case
        when lag(occurred_at) over (partition by visitor_id order by occurred_at) is null then timestamp '1900-01-01' else occurred_at
    end as valid_from,
    coalesce(lead(occurred_at) over (partition by visitor_id order by occurred_at), timestamp '9999-12-31') as valid_to
from changed;


-- A condition on the left side alone would turn a left join into nested loops; a key that is null there matches nothing.
create temp table touch as
with seen as (
    select
        web.signal_no,
        web.occurred_at,
        coalesce(web.landed_no, visitor.landed_no) as landed_no,
        case when web.landed_no is null then visitor.identified_at end as identified_at,
        null::varchar as account_id,
        null::tinyint as nps_score
    from web
    left join visitor
        on
            case when web.landed_no is null then web.visitor_id end = visitor.visitor_id
            and web.occurred_at >= visitor.valid_from
            and web.occurred_at < visitor.valid_to
    where not web.is_crawler

    union all

    select
        signal_key.signal_no,
        landed.occurred_at,
        coalesce(contact_key.landed_no, email_owner.landed_no),
        null,
        landed.account_id,
        landed.nps_score
    from (
        select
            'email_' || event_type as signal, occurred_at, contact_id, email,
            null::varchar as account_id, null::tinyint as nps_score
        from email_file
        where event_id not in (select event_id from repeated_email) and event_id not in (select event_id from gateway)

        union all

        select * exclude (event_id, filename, file_row_number)
        from (
            select
                'email_' || event_type as signal, occurred_at, contact_id, email,
                null::varchar as account_id, null::tinyint as nps_score, event_id, filename, file_row_number
            from email_file
            where event_id in (select event_id from repeated_email) and event_id not in (select event_id from gateway)
            qualify row_number() over (partition by event_id order by filename desc, file_row_number desc) = 1
        )

        union all

        select 'social_' || interaction_type, occurred_at, contact_id, email, account_id, null
        from read_parquet(getvariable('landing') || '/social/interactions/*.parquet')
        where occurred_at <= getvariable('as_of_at')

        union all

        select activity_type, occurred_at, contact_id, null, account_id, null
        from read_parquet(getvariable('landing') || '/crm/activities/*.parquet')
        where occurred_at <= getvariable('as_of_at') and not coalesce(is_deleted, false)

        union all

        select 'campaign_' || member_status, responded_at, contact_id, null, null, null
        from read_parquet(getvariable('landing') || '/crm/campaign_members/*.parquet')
        where responded_at <= getvariable('as_of_at') and member_status <> 'invited'

        union all

        select 'nps_answered', answered_at, contact_id, email, account_id, nps_score::tinyint
        from read_parquet(getvariable('landing') || '/survey/nps_answers/*.parquet')
        where answered_at <= getvariable('as_of_at')
    ) as landed
    left join signal_key on landed.signal = signal_key.signal
    left join contact_key on landed.contact_id = contact_key.contact_id
    left join email_owner
        on case when contact_key.contact_id is null then lower(trim(landed.email)) end = email_owner.email
),

matched as (
    select
        seen.signal_no,
        seen.occurred_at,
        contact_key.contact_no,
        coalesce(account_key.account_no, contact_key.account_no) as account_no,
        case
            when account_key.account_no is not null then seen.occurred_at
            else greatest(
                seen.occurred_at, seen.identified_at,
                case when contact_key.account_no is not null then contact_key.known_at end
            )
        end as known_at,
        seen.nps_score
    from seen
    left join contact_key on seen.landed_no = contact_key.landed_no
    left join account_key on seen.account_id = account_key.account_id
)

select signal_no, occurred_at, known_at, contact_no, account_no, nps_score
from matched
where known_at <= getvariable('as_of_at');

create temp table first_seen as
select signal_no, min(occurred_at) as first_at from touch where signal_no is not null group by signal_no;

-- What is scored: every account now, every deal as of its opening ------------------------------------------------------------------

create temp table deal as
select
    (1000000000 + row_number() over (order by opportunity_id))::integer as spine_no,
    opportunity_id,
    account_key.account_no,
    opened_at,
    case when closed_at > getvariable('as_of_at') then 'open' else status end as status
from read_parquet(getvariable('landing') || '/crm/opportunities/*.parquet') as landed
inner join account_key on landed.account_id = account_key.account_id
where
    not coalesce(is_deleted, false)
    and opened_at <= getvariable('as_of_at')
    and coalesce(lower(deal_type), '') <> 'renewal'
    and (closed_at > getvariable('as_of_at') or coalesce(lower(loss_reason), '') not in ('duplicate', 'test'));

create temp table spine as
select account_no as spine_no, account_no, getvariable('as_of_at') as as_of_at, getvariable('as_of_at')::date as as_of_date
from account
where surviving_id = account_id and not is_deleted and coalesce(created_at <= getvariable('as_of_at'), true)
union all
select spine_no, account_no, opened_at, opened_at::date from deal;

-- Features ----------------------------------------------------------------------------------------------------------------------

create temp table implicit_feature as
with started as (
    select signal.criterion_no, min(first_seen.first_at) as first_at
    from signal
    left join first_seen on signal.signal_no = first_seen.signal_no
    group by signal.criterion_no
),

person_day as (
    select
        spine.spine_no,
        signal.criterion_no,
        touch.contact_no,
        spine.as_of_date - touch.occurred_at::date as age_days,
        least(sum(signal.multiplier_milli)::bigint, max(signal.cap_per_day_milli)) as count_milli
    from spine
    inner join touch on spine.account_no = touch.account_no and touch.known_at <= spine.as_of_at
    inner join signal on touch.signal_no = signal.signal_no
    where spine.as_of_date - touch.occurred_at::date <= signal.window_days
    group by spine.spine_no, signal.criterion_no, touch.contact_no, spine.as_of_date - touch.occurred_at::date
),

person as (
    select
        person_day.spine_no,
        person_day.criterion_no,
        least(
            sum(
                person_day.count_milli
                * case
                    when criterion.half_life_days = 0 then 1000000000
                    else floor(pow(2, -person_day.age_days / criterion.half_life_days) * 1e9 + 0.5)::bigint
                end
                // 1000000
            )::bigint,
            max(criterion.cap_per_person_micro)
        ) as value_micro,
        min(person_day.age_days) as least_age_days
    from person_day
    inner join criterion on person_day.criterion_no = criterion.criterion_no
    group by person_day.spine_no, person_day.criterion_no, person_day.contact_no
),

measured as (
    select
        spine_no,
        criterion_no,
        sum(value_micro)::bigint as value_micro,
        min(least_age_days) as least_age_days
    from person
    group by spine_no, criterion_no
)

select
    spine.spine_no,
    criterion.criterion_no,
    case
        when criterion.measure = 'days_since_last' then measured.least_age_days::bigint * 1000000
        when measured.value_micro is not null then measured.value_micro
        when started.first_at <= spine.as_of_at then 0
    end as value_micro
from spine
cross join criterion
inner join started on criterion.criterion_no = started.criterion_no
left join measured on spine.spine_no = measured.spine_no and criterion.criterion_no = measured.criterion_no;

create temp table explicit_feature as
with decision_maker as (
    select distinct
        survivor.contact_no,
        contact_key.account_no,
        greatest(survivor.created_at, min(contact_key.known_at) over (partition by survivor.contact_no, contact_key.account_no))
            as known_at
    from contact_key
    inner join contact as survivor on contact_key.contact_no = survivor.contact_no
    where
        not survivor.is_deleted
        and survivor.created_at <= getvariable('as_of_at')
        and survivor.seniority in ('c_level', 'vp', 'head', 'owner')
        and contact_key.account_no is not null
),

decision_makers as (
    select spine.spine_no, count(*) as decision_maker_count
    from spine
    inner join decision_maker
        on spine.account_no = decision_maker.account_no and decision_maker.known_at <= spine.as_of_at
    group by spine.spine_no
),

nps as (
    select account_no, known_at, avg(nps_score) as nps_score
    from touch
    where nps_score is not null and account_no is not null
    group by account_no, known_at
),

described as (
    select
        spine.spine_no,
        version.industry,
        version.account_type,
        version.lead_source,
        version.country,
        version.tech_stack,
        version.employees,
        coalesce(decision_makers.decision_maker_count, 0) as decision_maker_count,
        nps.nps_score
    from spine
    inner join account on spine.account_no = account.account_no
    left join account_version as version
        on
            account.account_id = version.account_id
            and spine.as_of_at >= version.valid_from
            and spine.as_of_at < version.valid_to
    left join decision_makers on spine.spine_no = decision_makers.spine_no
    asof left join nps on spine.account_no = nps.account_no and spine.as_of_at >= nps.known_at
),

attribute as (
    select
        spine_no,
        unnest([
            {name: 'industry', text: nullif(industry, ''), micro: null::bigint},
            {name: 'account_type', text: nullif(account_type, ''), micro: null},
            {name: 'lead_source', text: nullif(lead_source, ''), micro: null},
            {name: 'country', text: nullif(country, ''), micro: null},
            {name: 'custom.tech_stack', text: tech_stack, micro: null},
            {name: 'employees', text: employees::varchar, micro: (employees * 1000000)::bigint},
            {name: 'decision_maker_count', text: decision_maker_count::varchar, micro: decision_maker_count * 1000000},
            {
                name: 'nps_score',
                text: (floor(nps_score * 10 + 0.5) / 10)::varchar,
                micro: floor(nps_score * 1000000 + 0.5)::bigint
            }
        ], recursive := true)
    from described
)

select attribute.spine_no, criterion.criterion_no, attribute.micro as value_micro, attribute.text as value
from attribute
inner join criterion on attribute.name = criterion.attribute and criterion.kind = 'explicit';

-- Points ------------------------------------------------------------------------------------------------------------------------

create temp table point as
with feature as (
    select
        spine_no,
        criterion_no,
        value_micro,
        case
            when value_micro is null then null
            when value_micro % 1000000 = 0 then (value_micro // 1000000)::varchar
            else ((value_micro // 10000)::decimal(20, 0) * 0.01::decimal(3, 2))::decimal(20, 2)::varchar
        end as value
    from implicit_feature
    union all
    select spine_no, criterion_no, value_micro, value from explicit_feature
),

category as (
    select criterion_no, band_no, unnest(categories) as value from band where band_type = 'values'
),

otherwise as (
    select
        criterion_no,
        max(case when band_type = 'missing' then band_no end) as missing_no,
        max(case when band_type = 'other' then band_no end) as other_no
    from band
    group by criterion_no
),

located as (
    select
        feature.spine_no,
        feature.criterion_no,
        feature.value,
        case
            when feature.value is null then otherwise.missing_no
            else coalesce(within.band_no, category.band_no, otherwise.other_no)
        end as band_no
    from feature
    inner join otherwise on feature.criterion_no = otherwise.criterion_no
    left join band as within
        on
            feature.criterion_no = within.criterion_no
            and within.band_type = 'range'
            and feature.value_micro >= within.lower_micro
            and feature.value_micro < within.upper_micro
    left join category on feature.criterion_no = category.criterion_no and feature.value = category.value
),

paired as (
    select
        one.spine_no,
        pair.criterion_no,
        case
            when one.value is not null or other.value is not null
                then coalesce(one.value, 'missing') || ' & ' || coalesce(other.value, 'missing')
        end as value,
        one.band_no || '|' || other.band_no as pair_value
    from criterion as pair
    inner join criterion as left_criterion on pair.left_criterion = left_criterion.criterion
    inner join criterion as right_criterion on pair.right_criterion = right_criterion.criterion
    inner join located as one on left_criterion.criterion_no = one.criterion_no
    inner join located as other on right_criterion.criterion_no = other.criterion_no and one.spine_no = other.spine_no
),

everything as (
    select spine_no, criterion_no, value, band_no from located
    union all
    select paired.spine_no, paired.criterion_no, paired.value, coalesce(category.band_no, otherwise.other_no)
    from paired
    inner join otherwise on paired.criterion_no = otherwise.criterion_no
    left join category on paired.criterion_no = category.criterion_no and paired.pair_value = category.value
)

select located.spine_no, located.criterion_no, located.value, band.band, band.points
from everything as located
inner join band on located.criterion_no = band.criterion_no and located.band_no = band.band_no;

create temp table state as
with known as (
    select distinct account_no from touch where account_no is not null
    union
    select explicit_feature.spine_no
    from explicit_feature
    inner join criterion on explicit_feature.criterion_no = criterion.criterion_no
    where explicit_feature.value is not null and criterion.attribute <> 'decision_maker_count'
)

select
    account.account_no,
    account.account_id,
    account.account_name,
    account.owner_id,
    case
        when account.is_suppressed then 'suppressed'
        when account.is_disqualified or account.lifecycle_stage = 'disqualified' then 'disqualified'
        when account.is_customer or account.lifecycle_stage = 'customer' then 'customer'
        when known.account_no is null then 'no data'
        else 'scored'
    end as state
from account
inner join spine on account.account_no = spine.spine_no
left join known on account.account_no = known.account_no;

-- Results -----------------------------------------------------------------------------------------------------------------------

create table scored.score_contributions as
select state.account_id, criterion.kind, criterion.criterion, point.value, point.band, point.points
from point
inner join state on point.spine_no = state.account_no and state.state = 'scored'
inner join criterion on point.criterion_no = criterion.criterion_no
order by state.account_id, criterion.kind, criterion.criterion;

create table scored.scored_accounts as
-- Read once: the whole card beside every account would be parsed for each of them.
with matrix as materialized (
    select
        (document ->> '$.matrix.fit_grades.A')::bigint as grade_a,
        (document ->> '$.matrix.fit_grades.B')::bigint as grade_b,
        (document ->> '$.matrix.fit_grades.C')::bigint as grade_c,
        (document ->> '$.matrix.engagement_levels.1')::bigint as level_1,
        (document ->> '$.matrix.engagement_levels.2')::bigint as level_2,
        (document ->> '$.matrix.engagement_levels.3')::bigint as level_3
    from card
),

usual as (
    select
        point.criterion_no,
        floor(1.0 * sum(point.points) / count(*) + 0.5)::bigint as points
    from point
    inner join state on point.spine_no = state.account_no and state.state = 'scored'
    group by point.criterion_no
),

total as (
    select
        point.spine_no as account_no,
        sum(case when criterion.kind = 'explicit' then point.points else 0 end)::bigint as fit_points,
        sum(case when criterion.kind = 'implicit' then point.points else 0 end)::bigint as engagement_points,
        sum(point.points)::bigint as total_points,
        -- criterion_no is in the order of the names, so it breaks ties.
        arg_max(
            case when point.points > 0 then '+' else '' end || point.points || ' ' || replace(criterion.criterion, '_', ' ')
            || ': ' || point.band,
            case when point.points * (point.points - usual.points) > 0 then 10000000 else 0 end
            + abs(point.points - usual.points) * 1000 - point.criterion_no,
            3
        ) filter (where point.points <> 0) as reasons
    from point
    inner join state on point.spine_no = state.account_no and state.state = 'scored'
    inner join criterion on point.criterion_no = criterion.criterion_no
    inner join usual on point.criterion_no = usual.criterion_no
    group by point.spine_no
),

graded as (
    select
        total.*,
        case
            when fit_points >= matrix.grade_a then 'A'
            when fit_points >= matrix.grade_b then 'B'
            when fit_points >= matrix.grade_c then 'C'
            else 'D'
        end
        || case
            when engagement_points >= matrix.level_1 then '1'
            when engagement_points >= matrix.level_2 then '2'
            when engagement_points >= matrix.level_3 then '3'
            else '4'
        end as cell,
        calibration.win_probability
    from total
    cross join matrix
    cross join (select min(points) as lowest, max(points) as highest from calibration) as ends
    inner join calibration on least(greatest(total.total_points, ends.lowest), ends.highest) = calibration.points
)

select
    state.account_id,
    state.account_name,
    state.owner_id,
    state.state,
    graded.fit_points,
    graded.engagement_points,
    graded.total_points,
    graded.cell,
    graded.win_probability,
    case
        when graded.account_no is not null
            then row_number() over (order by graded.total_points desc nulls last, state.account_id)
    end as "rank",
    array_to_string(graded.reasons, '; ') as top_reasons,
    getvariable('as_of_at') as as_of_at
from state
left join graded on state.account_no = graded.account_no
order by state.account_id;

-- A deal that the card learnt from counts with the points of a fit that had not seen it.
create table scored.scored_deals as
with out_of_fold as (
    select spine_id, fit_points + engagement_points as total_points
    from read_parquet(getvariable('landing') || '/scoring/training_rows/*.parquet', filename = true)
    inner join card on parse_filename(filename) like '%-' || (document ->> 'scorecard_version') || '.parquet'
)

select
    deal.opportunity_id,
    deal.status,
    coalesce(any_value(out_of_fold.total_points), sum(point.points))::bigint as total_points
from deal
inner join point on deal.spine_no = point.spine_no
left join out_of_fold on deal.opportunity_id = out_of_fold.spine_id
group by deal.opportunity_id, deal.status
order by deal.opportunity_id;
