-- What is decided to be sent is on the send list, and nothing else is.
{{ config(meta={'dagster': {'ref': {'name': 'send_list'}}}) }}

with

decided as (

    select
        decision_id,
        enrollment_id,
        step,
        channel
    from {{ ref('decisions') }}
    where verdict = 'send'

),

listed as (

    select
        send_id,
        decision_id,
        enrollment_id,
        step,
        channel
    from {{ ref('send_list') }}
    -- none: a warehouse was put back, and the decision lost
    where decision_id is not null

)

select
    decided.decision_id,
    listed.send_id
from decided
full outer join listed
    on
        decided.enrollment_id = listed.enrollment_id
        and decided.step = listed.step
        and decided.channel = listed.channel
where decided.decision_id is null or listed.send_id is null
