-- One row per campaign of a session to which a message led: the two are one touch.
with

session_touches as (

    select * from {{ ref('session_touches') }}

),

message_touches as (

    select * from {{ ref('message_touches') }}

),

message_interactions as (

    select * from {{ ref('message_interactions') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

-- who has just clicked comes from that message, whatever the visit is called
find_visits_after_clicks as (

    select
        session_touches.session_id,
        session_touches.touchpoint_id as session_touchpoint_id,
        message_touches.touchpoint_id as message_touchpoint_id,
        message_touches.touched_at,
        0 as match_order
    from message_interactions
    cross join attribution_rules
    inner join message_touches
        on
            message_interactions.touchpoint_id = message_touches.touchpoint_id
            and message_interactions.profile_id = message_touches.profile_id
    inner join session_touches
        on
            message_touches.profile_id = session_touches.profile_id
            and message_interactions.occurred_at <= session_touches.touched_at
            and {{ add_seconds(
                'message_interactions.occurred_at',
                'attribution_rules.click_to_visit_seconds'
            ) }} >= session_touches.touched_at
    where message_interactions.depth = 3
    qualify row_number() over (
        partition by message_interactions.message_id
        order by
            session_touches.touched_at asc nulls last,
            session_touches.touchpoint_id asc nulls last
    ) = 1

),

find_visits_of_campaign as (

    select
        session_touches.session_id,
        session_touches.touchpoint_id as session_touchpoint_id,
        message_touches.touchpoint_id as message_touchpoint_id,
        message_touches.touched_at,
        case
            when
                lower(session_touches.campaign_id)
                = lower(message_touches.campaign_id)
                then 1
            else 2
        end as match_order
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

),

unite_matches as (

    select * from find_visits_after_clicks
    union all
    select * from find_visits_of_campaign

),

choose_messages as (

    select
        session_id,
        session_touchpoint_id,
        message_touchpoint_id
    from unite_matches
    qualify row_number() over (
        partition by session_touchpoint_id
        order by
            match_order asc nulls last,
            touched_at desc nulls last,
            message_touchpoint_id asc nulls last
    ) = 1

)

select * from choose_messages
