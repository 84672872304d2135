-- What was taken for a bot's at the last build, among what is looked at again. None in a full build.
{%- set looked_at = ref('int_bots__looked_at') %}
{%- if is_full_build() %}
select group_key as touchpoint_key
from {{ looked_at }}
where 1 = 0
{%- else %}
select bots.touchpoint_key
from {{ not_yet_built('int_bots') }} as bots
inner join {{ looked_at }} as looked_at on bots.group_key = looked_at.group_key
{%- endif %}
