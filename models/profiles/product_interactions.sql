-- One row per message and product or category that somebody looked at, put in or took
-- out of the cart, or ordered.
with

session_events as (

    select * from {{ ref('session_events') }}

),

product_views as (

    select * from {{ ref('stg_product_views') }}

),

cart_events as (

    select * from {{ ref('stg_cart_events') }}

),

order_lines as (

    select * from {{ ref('stg_order_lines') }}

),

list_interactions as (

    select
        message_id,
        action,
        product_id,
        product_name,
        category,
        brand,
        price,
        cast(1 as decimal(18, 3)) as quantity
    from product_views
    where product_id is not null or category is not null
    union all
    select
        message_id,
        action,
        product_id,
        product_name,
        category,
        brand,
        price,
        coalesce(quantity, 1) as quantity
    from cart_events
    where action in ('added', 'removed') and product_id is not null
    union all
    select
        message_id,
        'ordered' as action,
        product_id,
        max(product_name) as product_name,
        max(category) as category,
        max(brand) as brand,
        max(price) as price,
        cast(sum(quantity) as decimal(18, 3)) as quantity
    from order_lines
    where product_id is not null
    group by message_id, product_id

),

assign_sessions as (

    select
        list_interactions.message_id,
        session_events.profile_id,
        session_events.session_id,
        session_events.occurred_at,
        list_interactions.action,
        list_interactions.product_id,
        list_interactions.product_name,
        list_interactions.category,
        list_interactions.brand,
        list_interactions.price,
        list_interactions.quantity
    from list_interactions
    inner join session_events
        on list_interactions.message_id = session_events.message_id

)

select * from assign_sessions
