-- All day counts of the accounts in which something moved since the last build: features of accounts and of contacts ask for the same
-- ones, and to find them is to search years of counts. None in a full build.
{%- set moved = ref('int_touchpoints__moved') %}
{%- set daily = ref('int_touchpoints__daily') %}
select daily.*
from {{ daily }} as daily
{%- if is_full_build() %}
where 1 = 0
{%- else %}
where daily.account_key in (select account_key from {{ moved }} where account_key is not null)
{%- endif %}
