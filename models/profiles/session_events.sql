-- One row per thing somebody did themselves on site, in the app or in a store: the
-- session it belongs to.
with

events as (

    select * from {{ ref('stg_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

orders as (

    select * from {{ ref('stg_orders') }}

),

store_visits as (

    select
        message_id,
        store_id
    from orders
    where store_id is not null
    union all
    select
        message_id,
        store_id
    from {{ ref('stg_product_views') }}
    where store_id is not null

),

rules as (

    select * from {{ ref('profile_rules') }}

),

find_activities as (

    select
        events.message_id,
        profile_events.profile_id,
        profile_events.occurred_at,
        events.kind,
        events.action,
        events.session_id as tracker_session_id,
        store_visits.store_id,
        case
            when store_visits.message_id is not null then 'store'
            when events.action = 'screen' or events.device_type in ('ios', 'android')
                then 'app'
            when events.page_url is not null or events.kind <> 'order' then 'web'
        end as surface
    from events
    inner join profile_events on events.message_id = profile_events.message_id
    left join store_visits on events.message_id = store_visits.message_id
    left join orders on events.message_id = orders.message_id
    where
        events.kind in ('page_view', 'product_view', 'cart', 'checkout')
        -- a second message about an order is no second order
        or orders.message_id is not null
        or (
            coalesce(events.kind, 'activity') = 'activity'
            and events.type = 'track'
            and events.anonymous_id is not null
        )

),

look_back as (

    select
        *,
        lag(occurred_at) over visits as previous_at,
        last_value(tracker_session_id ignore nulls) over visits_so_far
            as newest_tracker_session_id,
        last_value(
            case when tracker_session_id is not null then occurred_at end ignore nulls
        ) over visits_so_far as newest_tracker_at
    from find_activities
    window
        visits as (partition by profile_id order by occurred_at asc, message_id asc),
        visits_so_far as (
            partition by profile_id order by occurred_at asc, message_id asc
            rows between unbounded preceding and current row
        )

),

find_starts as (

    select
        look_back.*,
        coalesce(
            look_back.tracker_session_id,
            case
                when
                    {{ seconds_between('newest_tracker_at', 'occurred_at') }}
                    <= rules.session_gap_seconds
                    then look_back.newest_tracker_session_id
            end
        ) as session_name,
        case
            when
                look_back.previous_at is null
                or {{ seconds_between('previous_at', 'occurred_at') }}
                > rules.session_gap_seconds
                then look_back.occurred_at
        end as visit_started_at
    from look_back
    cross join rules

),

name_sessions as (

    select
        message_id,
        profile_id,
        {{ surrogate_key([
            'profile_id',
            'coalesce(session_name, cast(last_value(visit_started_at ignore nulls) '
            ~ 'over visits_so_far as varchar))',
        ]) }} as session_id,
        occurred_at,
        kind,
        action,
        surface,
        store_id
    from find_starts
    window
        visits_so_far as (
            partition by profile_id order by occurred_at asc, message_id asc
            rows between unbounded preceding and current row
        )

)

select * from name_sessions
