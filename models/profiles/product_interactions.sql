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

product_lines as (

    select * from {{ ref('stg_product_lines') }}
    where kind in ('cart', 'checkout') and product_id is not null

),

run as (

    select * from {{ ref('stg_run') }}

),

-- what one order took, or none yet, was one cart
cart_messages as (

    select
        *,
        coalesce(order_message_id, '') as cart
    from {{ ref('cart_messages') }}

),

list_changes as (

    select
        message_id,
        action,
        product_id,
        product_name,
        category,
        brand,
        price,
        currency,
        coalesce(quantity, 1) as quantity
    from cart_events
    where action in ('added', 'removed') and product_id is not null
    union all
    select
        message_id,
        action,
        product_id,
        max(product_name) as product_name,
        max(category) as category,
        max(brand) as brand,
        max(price) as price,
        max(currency) as currency,
        cast(sum(quantity) as decimal(18, 3)) as quantity
    from product_lines
    where
        action in ('added', 'removed')
        and message_id not in (
            select cart_events.message_id from cart_events
            where cart_events.product_id is not null
        )
    group by message_id, action, product_id

),

list_added as (

    select distinct
        cart_messages.profile_id,
        cart_messages.cart,
        list_changes.product_id
    from list_changes
    inner join cart_messages on list_changes.message_id = cart_messages.message_id
    where list_changes.action = 'added'

),

-- a product that is listed in a cart, and was never said to be added, was added
find_listed as (

    select
        product_lines.message_id,
        'added' as action,
        product_lines.product_id,
        product_lines.product_name,
        product_lines.category,
        product_lines.brand,
        product_lines.price,
        product_lines.currency,
        product_lines.quantity
    from product_lines
    inner join cart_messages on product_lines.message_id = cart_messages.message_id
    left join list_added
        on
            cart_messages.profile_id = list_added.profile_id
            and cart_messages.cart = list_added.cart
            and product_lines.product_id = list_added.product_id
    where
        product_lines.action not in ('added', 'removed')
        and list_added.product_id is null
    qualify row_number() over (
        partition by
            cart_messages.profile_id,
            cart_messages.cart,
            product_lines.product_id
        order by
            cart_messages.occurred_at asc,
            product_lines.message_id asc,
            product_lines.line_number asc
    ) = 1

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
        currency,
        cast(1 as decimal(18, 3)) as quantity
    from product_views
    where product_id is not null or category is not null
    union all
    select * from list_changes
    union all
    select * from find_listed
    union all
    select
        message_id,
        'ordered' as action,
        product_id,
        max(product_name) as product_name,
        max(category) as category,
        max(brand) as brand,
        max(price) as price,
        max(currency) as currency,
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
        list_interactions.quantity,
        -- without one it is the shop's; one that cannot be read is nobody's
        case
            when list_interactions.currency is null then run.base_currency
            when {{ is_currency('list_interactions.currency') }}
                then list_interactions.currency
        end as currency
    from list_interactions
    cross join run
    inner join session_events
        on list_interactions.message_id = session_events.message_id

)

select * from assign_sessions
