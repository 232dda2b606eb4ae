-- One row per marketing touch: a message, or a campaign that led into a session.
with

message_touches as (

    select * from {{ ref('message_touches') }}

),

session_touches as (

    select * from {{ ref('session_touches') }}

),

message_sessions as (

    select * from {{ ref('message_sessions') }}

),

count_answers as (

    select
        message_touchpoint_id,
        count(*) as session_count
    from message_sessions
    group by message_touchpoint_id

),

unite_touches as (

    select
        message_touches.touchpoint_id,
        message_touches.profile_id,
        message_touches.channel,
        message_touches.campaign,
        message_touches.journey,
        message_touches.step,
        message_touches.send_id,
        cast(null as varchar) as session_id,
        message_touches.touched_at,
        message_touches.expires_at,
        case
            when count_answers.session_count > 0 then 'session'
            else message_touches.interaction
        end as interaction
    from message_touches
    left join count_answers
        on message_touches.touchpoint_id = count_answers.message_touchpoint_id
    union all
    select
        session_touches.touchpoint_id,
        session_touches.profile_id,
        session_touches.channel,
        coalesce(session_touches.campaign_name, session_touches.campaign_id)
            as campaign,
        cast(null as varchar) as journey,
        cast(null as varchar) as step,
        cast(null as varchar) as send_id,
        session_touches.session_id,
        session_touches.touched_at,
        session_touches.expires_at,
        'session' as interaction
    from session_touches
    left join message_sessions
        on session_touches.touchpoint_id = message_sessions.session_touchpoint_id
    where message_sessions.session_touchpoint_id is null

)

select * from unite_touches
