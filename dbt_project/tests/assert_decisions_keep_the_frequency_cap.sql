-- Nobody gets a marketing message in this run who had as many as the cap allows.
{{ config(meta={'dagster': {'ref': {'name': 'send_list'}}}) }}

with

run as (

    select * from {{ ref('stg_run') }}

),

capped as (

    select
        profile_id,
        count(*) as contact_count
    from {{ ref('recent_contacts') }}
    group by profile_id

)

select
    send_list.send_id,
    capped.contact_count
from {{ ref('send_list') }} as send_list
inner join run on send_list.as_of = run.as_of
inner join capped on send_list.profile_id = capped.profile_id
where
    send_list.message_class = 'marketing'
    and send_list.decision_id is not null
    and capped.contact_count >= {{ decision_rule('frequency_cap', 'limit_value') }}
