-- One row per profile and sign of what it is after, with the evidence.
with

session_events as (

    select * from {{ ref('session_events') }}

),

sessions as (

    select * from {{ ref('sessions') }}

),

cart_items as (

    select * from {{ ref('cart_items') }}

),

considerations as (

    select * from {{ ref('considerations') }}

),

rfm as (

    select * from {{ ref('rfm') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

find_last_activities as (

    select
        sessions.profile_id,
        {{ seconds_between('max(sessions.ended_at)', 'max(run.as_of)') }}
        >= max(rules.left_after_seconds) as has_left,
        max_by(sessions.last_message_id, (sessions.ended_at, sessions.session_id))
            as last_message_id
    from sessions
    cross join run
    cross join rules
    group by sessions.profile_id

),

find_last_steps as (

    select
        session_events.profile_id,
        case when session_events.kind = 'checkout' then 'checkout' else 'price_check'
        end as step,
        max_by(
            session_events.message_id,
            (session_events.occurred_at, session_events.message_id)
        ) as message_id
    from session_events
    left join rfm on session_events.profile_id = rfm.profile_id
    where
        (
            session_events.kind = 'checkout'
            or session_events.action = 'price_checked'
        )
        and (
            rfm.last_order_at is null
            or session_events.occurred_at > rfm.last_order_at
        )
    group by all

),

list_signals as (

    select
        profile_id,
        'checkout_abandoned' as intent,
        message_id
    from find_last_steps
    where step = 'checkout'
    union all
    select
        profile_id,
        'cart_abandoned' as intent,
        max_by(message_id, (added_at, message_id)) as message_id
    from cart_items
    group by profile_id
    union all
    select
        profile_id,
        'price_checking' as intent,
        message_id
    from find_last_steps
    where step = 'price_check'
    union all
    select
        profile_id,
        'considering' as intent,
        message_id
    from considerations
    union all
    select
        profile_id,
        'converted' as intent,
        last_order_message_id as message_id
    from rfm
    union all
    select
        profile_id,
        'browsing' as intent,
        last_message_id as message_id
    from find_last_activities

),

tell_whether_left as (

    select
        list_signals.profile_id,
        case
            when
                list_signals.intent in ('cart_abandoned', 'checkout_abandoned')
                and not find_last_activities.has_left
                then 'considering'
            else list_signals.intent
        end as intent,
        list_signals.message_id
    from list_signals
    inner join find_last_activities
        on list_signals.profile_id = find_last_activities.profile_id

)

select * from tell_whether_left
