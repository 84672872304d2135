-- To which parent an account belonged, when, and why a parent that its record names does not count. Computed only where behaviour rolls up.
-- Both are records that count after merges. As with other attributes, the first version of a record also stands for the time before it.
{%- set roll_up %}exists (select 1 from {{ source('settings', 'criteria') }} where is_rolled_up){% endset %}
with survivors as (
    select * from {{ ref('stg_crm__account_survivors') }}
    where {{ roll_up }}
),

stated as (
    select
        versions.account_id,
        versions.parent_account_id as stated_parent_id,
        parents.surviving_account_id as parent_account_id,
        versions.valid_from,
        -- A later version is not known yet: when its moment has come, this row is another one for builds that compare.
        case
            when versions.valid_to > {{ as_of_at() }} then {{ end_of_time() }}
            else versions.valid_to
        end as valid_to
    from {{ ref('stg_crm__account_versions') }} as versions
    inner join survivors on versions.account_id = survivors.account_id
    left join survivors as parents on versions.parent_account_id = parents.account_id
    where
        survivors.surviving_account_id = versions.account_id
        and trim(versions.parent_account_id) <> ''
        and not coalesce(versions.is_deleted, false)
        and versions.valid_from <= {{ as_of_at() }}
),

links as (
    select
        parent_account_id as account_id,
        account_id as below_account_id,
        valid_from,
        valid_to
    from stated
    where parent_account_id is not null and parent_account_id <> account_id
),

{{ sixteen_levels('links', 'way') }},

-- An account that is above itself, and for which time. Every link of the circle has an account of its own here.
circles as (
    select distinct
        account_id,
        valid_from,
        valid_to
    from way_16
    where account_id = below_account_id
),

-- A link may be part of a circle for some of its time: it is cut where a circle begins and where one ends.
cuts as (
    select
        account_id,
        valid_from,
        valid_from as cut_at
    from stated

    union

    select
        stated.account_id,
        stated.valid_from,
        circles.valid_from as cut_at
    from stated
    inner join circles on stated.account_id = circles.account_id
    where circles.valid_from >= stated.valid_from and circles.valid_from < stated.valid_to

    union

    select
        stated.account_id,
        stated.valid_from,
        circles.valid_to as cut_at
    from stated
    inner join circles on stated.account_id = circles.account_id
    where circles.valid_to > stated.valid_from and circles.valid_to < stated.valid_to
),

pieces as (
    select
        stated.account_id,
        stated.stated_parent_id,
        stated.parent_account_id,
        cuts.cut_at as valid_from,
        coalesce(
            lead(cuts.cut_at) over (partition by cuts.account_id, cuts.valid_from order by cuts.cut_at), stated.valid_to
        ) as valid_to
    from cuts
    inner join stated on cuts.account_id = stated.account_id and cuts.valid_from = stated.valid_from
),

circular as (
    select distinct
        pieces.account_id,
        pieces.valid_from
    from pieces
    inner join circles on pieces.account_id = circles.account_id
    where circles.valid_from <= pieces.valid_from and circles.valid_to >= pieces.valid_to
),

judged as (
    select
        pieces.*,
        case
            when pieces.parent_account_id is null then 'no such account'
            when pieces.parent_account_id = pieces.account_id then 'its own parent'
            when circular.account_id is not null then 'in a circle'
            else 'linked'
        end as link_state
    from pieces
    left join circular on pieces.account_id = circular.account_id and pieces.valid_from = circular.valid_from
)

select
    account_id,
    stated_parent_id,
    case when link_state = 'linked' then parent_account_id end as parent_account_id,
    link_state,
    valid_from,
    valid_to
from judged
