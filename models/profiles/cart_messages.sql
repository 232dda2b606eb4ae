-- One row per message about a cart or a checkout: the first order since that took what
-- lay in it. Whoever buys a pen in a store leaves the desk in the cart.
with

session_events as (

    select * from {{ ref('session_events') }}

),

cart_events as (

    select * from {{ ref('stg_cart_events') }}

),

checkout_events as (

    select * from {{ ref('stg_checkout_events') }}

),

product_lines as (

    select * from {{ ref('stg_product_lines') }}

),

orders as (

    select * from {{ ref('stg_orders') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

list_messages as (

    select
        session_events.message_id,
        session_events.profile_id,
        session_events.occurred_at,
        coalesce(cart_events.cart_id, checkout_events.cart_id) as cart_id
    from session_events
    left join cart_events on session_events.message_id = cart_events.message_id
    left join checkout_events on session_events.message_id = checkout_events.message_id
    where session_events.kind in ('cart', 'checkout')

),

list_products as (

    select
        message_id,
        product_id,
        lower(product_name) as product_name
    from cart_events
    where product_id is not null or product_name is not null
    union all
    select
        message_id,
        product_id,
        lower(product_name) as product_name
    from product_lines
    where product_id is not null or product_name is not null

),

cart_products as (

    select
        list_messages.profile_id,
        list_products.product_id,
        list_products.product_name,
        min(list_messages.occurred_at) as listed_at
    from list_messages
    inner join list_products on list_messages.message_id = list_products.message_id
    group by all

),

assign_orders as (

    select
        orders.message_id,
        profile_events.profile_id,
        orders.ordered_at,
        orders.cart_id,
        orders.source
    from orders
    inner join profile_events on orders.message_id = profile_events.message_id

),

-- a store may know a product by its name alone
share_products as (

    select distinct assign_orders.message_id
    from assign_orders
    inner join list_products on assign_orders.message_id = list_products.message_id
    inner join cart_products
        on
            assign_orders.profile_id = cart_products.profile_id
            and assign_orders.ordered_at >= cart_products.listed_at
            and (
                list_products.product_id = cart_products.product_id
                or list_products.product_name = cart_products.product_name
            )

),

-- an order online may be of any cart: in doubt nobody is reminded of what they bought
describe_orders as (

    select
        *,
        message_id in (select share_products.message_id from share_products)
            as shares_product,
        source = 'online'
        or message_id not in (select list_products.message_id from list_products)
            as may_hold_all
    from assign_orders

),

find_orders as (

    select
        list_messages.message_id,
        min(orders.ordered_at) as ordered_at,
        min_by(orders.message_id, (orders.ordered_at, orders.message_id))
            as order_message_id
    from list_messages
    inner join describe_orders as orders
        on
            list_messages.profile_id = orders.profile_id
            and list_messages.occurred_at <= orders.ordered_at
            and (
                orders.shares_product
                or coalesce(
                    list_messages.cart_id = orders.cart_id,
                    orders.may_hold_all
                    or list_messages.message_id not in (
                        select list_products.message_id from list_products
                    )
                )
            )
    group by list_messages.message_id

),

mark_ordered as (

    select
        list_messages.message_id,
        list_messages.profile_id,
        list_messages.occurred_at,
        find_orders.order_message_id,
        find_orders.ordered_at
    from list_messages
    left join find_orders on list_messages.message_id = find_orders.message_id

)

select * from mark_ordered
