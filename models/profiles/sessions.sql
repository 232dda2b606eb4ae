-- One row per session: a visit to site, app or store.
with

session_events as (

    select * from {{ ref('session_events') }}

),

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

events as (

    select * from {{ ref('stg_events') }}

),

device_classes as (

    select * from {{ ref('device_classes') }}

),

summarise_sessions as (

    select
        session_id,
        profile_id,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        count(*) as event_count,
        count(case when kind = 'page_view' then 1 end) as page_view_count,
        count(case when kind = 'product_view' and action = 'viewed' then 1 end)
            as product_view_count,
        count(case when kind = 'cart' and action = 'added' then 1 end)
            as cart_add_count,
        count(case when kind = 'checkout' then 1 end) as checkout_count,
        count(case when kind = 'order' then 1 end) as order_count,
        min_by(message_id, (occurred_at, message_id)) as first_message_id,
        max_by(message_id, (occurred_at, message_id)) as last_message_id,
        coalesce(bool_or(surface = 'store'), false) as is_store,
        coalesce(bool_or(surface = 'app'), false) as is_app,
        coalesce(bool_or(surface = 'web'), false) as is_web
    from session_events
    group by session_id, profile_id

),

count_category_views as (

    select
        session_id,
        category,
        count(*) as view_count
    from product_interactions
    where action = 'viewed' and category is not null
    group by session_id, category

),

find_main_categories as (

    select
        session_id,
        category,
        view_count
    from count_category_views
    qualify row_number() over (
        partition by session_id order by view_count desc, category asc
    ) = 1

),

first_events as (

    select
        events.message_id,
        events.campaign_id,
        events.campaign_name,
        events.campaign_source,
        events.campaign_medium,
        events.campaign_content,
        events.device_type,
        events.user_agent,
        events.timezone,
        events.country,
        events.city
    from events
    inner join summarise_sessions
        on events.message_id = summarise_sessions.first_message_id

),

list_devices as (

    select distinct
        device_type,
        user_agent
    from first_events

),

classify_devices as (

    select
        list_devices.device_type,
        list_devices.user_agent,
        min_by(device_classes.device_class, device_classes.rule_order) as device_class
    from list_devices
    inner join device_classes
        on
            case device_classes.told_by
                when 'device_type' then list_devices.device_type
                else list_devices.user_agent
            end like device_classes.pattern
    group by list_devices.device_type, list_devices.user_agent

),

describe_sessions as (

    select
        summarise_sessions.session_id,
        summarise_sessions.profile_id,
        summarise_sessions.started_at,
        summarise_sessions.ended_at,
        summarise_sessions.first_message_id,
        summarise_sessions.last_message_id,
        first_events.campaign_id,
        first_events.campaign_name,
        first_events.campaign_source,
        first_events.campaign_medium,
        first_events.campaign_content,
        first_events.device_type,
        classify_devices.device_class,
        first_events.timezone,
        first_events.country,
        first_events.city,
        find_main_categories.category as max_category,
        summarise_sessions.event_count,
        summarise_sessions.page_view_count,
        summarise_sessions.product_view_count,
        summarise_sessions.cart_add_count,
        summarise_sessions.checkout_count,
        summarise_sessions.order_count,
        coalesce(find_main_categories.view_count, 0) as max_category_views,
        summarise_sessions.is_store,
        summarise_sessions.is_app,
        summarise_sessions.is_web
    from summarise_sessions
    inner join first_events
        on summarise_sessions.first_message_id = first_events.message_id
    left join classify_devices
        on
            first_events.device_type is not distinct from classify_devices.device_type
            and first_events.user_agent is not distinct from classify_devices.user_agent
    left join find_main_categories
        on summarise_sessions.session_id = find_main_categories.session_id

)

select * from describe_sessions
