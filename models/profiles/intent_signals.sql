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

cart_messages as (

    select * from {{ ref('cart_messages') }}

),

purchase_histories as (

    select * from {{ ref('purchase_histories') }}

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
        >= max(rules.left_after_seconds) as has_left
    from sessions
    cross join run
    cross join rules
    group by sessions.profile_id

),

find_last_steps as (

    select
        session_events.profile_id,
        case
            when session_events.kind = 'checkout' then 'checkout_abandoned'
            when session_events.action = 'price_checked' then 'price_checking'
            else 'browsing'
        end as intent,
        max_by(
            session_events.message_id,
            (session_events.occurred_at, session_events.message_id)
        ) as message_id
    from session_events
    left join purchase_histories
        on session_events.profile_id = purchase_histories.profile_id
    left join cart_messages on session_events.message_id = cart_messages.message_id
    where
        session_events.kind is distinct from 'order'
        and case
            when session_events.kind = 'checkout' then cart_messages.ordered_at is null
            else
                purchase_histories.last_placed_at is null
                or session_events.occurred_at > purchase_histories.last_placed_at
        end
    group by 1, 2

),

list_signals as (

    select
        profile_id,
        intent,
        message_id
    from find_last_steps
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
        'considering' as intent,
        message_id
    from considerations
    union all
    select
        profile_id,
        'converted' as intent,
        last_order_message_id as message_id
    from rfm

),

flag_left as (

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

select * from flag_left
