-- No run decides to send one person two messages: arbitration let one win.
{{ config(meta={'dagster': {'ref': {'name': 'send_list'}}}) }}

select
    as_of,
    profile_id,
    count(*) as send_count
from {{ ref('send_list') }}
group by as_of, profile_id
having count(*) > 1
