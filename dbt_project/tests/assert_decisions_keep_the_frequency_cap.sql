-- Nobody gets a message in this run who had as many as a cap allows.
{{ config(meta={'dagster': {'ref': {'name': 'send_list'}}}) }}

with

run as (

    select * from {{ ref('stg_run') }}

),

full_caps as (

    select
        profile_id,
        cap_channel,
        cap_class
    from {{ ref('recent_contacts') }}
    group by
        profile_id,
        cap_channel,
        cap_class,
        window_hours,
        limit_value
    having count(distinct contact_id) >= limit_value

)

select send_list.send_id
from {{ ref('send_list') }} as send_list
inner join run on send_list.as_of = run.as_of
inner join full_caps
    on
        send_list.profile_id = full_caps.profile_id
        and send_list.channel = coalesce(full_caps.cap_channel, send_list.channel)
        and send_list.message_class
        = coalesce(full_caps.cap_class, send_list.message_class)
where send_list.decision_id is not null
