-- Whose touchpoints may belong to somebody else than at the last build, or have become known since. None in a full build.
-- An address or a visitor changes with its contact, too: its touchpoints follow the contact to its account.
{%- set contacts = ref('stg_crm__contact_survivors') %}
{%- set accounts = ref('stg_crm__account_survivors') %}
{%- set links = ref('int_contact_accounts') %}
{%- set emails = ref('int_contact_emails') %}
{%- set visitors = ref('int_visitor_identities') %}
{%- if is_full_build() %}
select
    'account' as kind,
    account_id as id
from {{ accounts }}
where 1 = 0
{%- else %}
with contacts as (
    select contact_id as id
    from ({{ changed_since_last_build(contacts, 'contact_id') }}) as merged

    union

    select landed_contact_id as id
    from (
        {{ changed_since_last_build(links, 'landed_contact_id', known_by='known_at') }}
    ) as linked
),

emails as (
    select email as id
    from ({{ changed_since_last_build(emails, 'email') }}) as assigned

    union

    select emails.email as id
    from {{ emails }} as emails
    inner join contacts on emails.contact_id = contacts.id
),

visitors as (
    select visitor_id as id
    from (
        {{ changed_since_last_build(visitors, 'visitor_id') }}
    ) as identified

    union

    select visitors.visitor_id as id
    from {{ visitors }} as visitors
    inner join contacts on visitors.contact_id = contacts.id
),

accounts as (
    select distinct account_id as id
    from ({{ changed_since_last_build(accounts, 'account_id') }}) as merged
)

select
    'contact' as kind,
    id
from contacts

union all

select
    'email' as kind,
    id
from emails

union all

select
    'visitor' as kind,
    id
from visitors

union all

select
    'account' as kind,
    id
from accounts
{%- endif %}
