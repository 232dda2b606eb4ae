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

session_campaigns as (

    select * from {{ ref('session_campaigns') }}

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

-- what the first event of a visit leaves out, a later one may state
first_statements as (

    select
        session_events.session_id,
        {%- for field in ['timezone', 'country', 'city'] %}
        min_by(
            events.{{ field }}, (events.occurred_at, events.message_id)
        ) filter (where events.{{ field }} is not null) as {{ field }},
        {%- endfor %}
        min_by(
            {{ make_struct({
                'device_type': 'events.device_type', 'user_agent': 'events.user_agent'
            }) }},
            (events.occurred_at, events.message_id)
        ) filter (
            where coalesce(events.device_type, events.user_agent) is not null
        ) as device
    from session_events
    inner join events on session_events.message_id = events.message_id
    group by session_events.session_id

),

first_campaigns as (

    select * from session_campaigns
    qualify row_number() over (
        partition by session_id order by occurred_at asc, message_id asc
    ) = 1

),

list_devices as (

    select distinct
        device.device_type,
        device.user_agent
    from first_statements

),

classify_devices as (

    select
        list_devices.device_type,
        list_devices.user_agent,
        min_by(device_classes.device_class, device_classes.rule_order) as device_class
    from list_devices
    inner join device_classes
        on
            case device_classes.match_field
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
        first_campaigns.campaign_id,
        first_campaigns.campaign_name,
        first_campaigns.campaign_source,
        first_campaigns.campaign_medium,
        first_campaigns.campaign_content,
        first_statements.device.device_type,
        classify_devices.device_class,
        first_statements.timezone,
        first_statements.country,
        first_statements.city,
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
    inner join first_statements
        on summarise_sessions.session_id = first_statements.session_id
    left join first_campaigns
        on summarise_sessions.session_id = first_campaigns.session_id
    left join classify_devices
        on
            first_statements.device.device_type
            is not distinct from classify_devices.device_type
            and first_statements.device.user_agent
            is not distinct from classify_devices.user_agent
    left join find_main_categories
        on summarise_sessions.session_id = find_main_categories.session_id

)

select * from describe_sessions
