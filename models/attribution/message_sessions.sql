-- One row per campaign of a session to which a message led: the two are one touch.
with

session_touches as (

    select * from {{ ref('session_touches') }}

),

message_touches as (

    select * from {{ ref('message_touches') }}

),

find_their_message as (

    select
        session_touches.session_id,
        session_touches.touchpoint_id as session_touchpoint_id,
        message_touches.touchpoint_id as message_touchpoint_id
    from session_touches
    inner join message_touches
        on
            session_touches.profile_id = message_touches.profile_id
            and session_touches.channel = message_touches.channel
            and session_touches.touched_at >= message_touches.touched_at
            and session_touches.touched_at <= message_touches.expires_at
            and {{ is_same_campaign(
                'session_touches', 'message_touches', 'campaign'
            ) }}
    qualify row_number() over (
        partition by session_touches.touchpoint_id
        order by
            case
                when
                    lower(session_touches.campaign_id)
                    = lower(message_touches.campaign_id)
                    then 0
                else 1
            end asc nulls last,
            message_touches.touched_at desc nulls last,
            message_touches.touchpoint_id asc nulls last
    ) = 1

)

select * from find_their_message
