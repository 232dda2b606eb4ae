-- No run lets one person have two messages, new or waiting: arbitration let one win.
{{ config(meta={'dagster': {'ref': {'name': 'deliverable_sends'}}}) }}

with

send_list as (

    select * from {{ ref('send_list') }}

),

deliverable_sends as (

    select * from {{ ref('deliverable_sends') }}
    where is_deliverable

),

run as (

    select * from {{ ref('stg_run') }}

),

collect_sends as (

    select
        as_of,
        profile_id
    from send_list

    union all

    select
        run.as_of,
        deliverable_sends.profile_id
    from deliverable_sends
    cross join run

)

select
    as_of,
    profile_id,
    count(*) as send_count
from collect_sends
group by as_of, profile_id
having count(*) > 1
