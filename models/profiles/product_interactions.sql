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

-- what lies in the cart between two orders is one cart
number_carts as (

    select
        message_id,
        profile_id,
        occurred_at,
        count(case when kind = 'order' then 1 end) over (
            partition by profile_id order by occurred_at asc, message_id asc
            rows between unbounded preceding and current row
        ) as cart_number
    from session_events
    where kind in ('cart', 'checkout', 'order')

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
        number_carts.profile_id,
        number_carts.cart_number,
        list_changes.product_id
    from list_changes
    inner join number_carts on list_changes.message_id = number_carts.message_id
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
    inner join number_carts on product_lines.message_id = number_carts.message_id
    left join list_added
        on
            number_carts.profile_id = list_added.profile_id
            and number_carts.cart_number = list_added.cart_number
            and product_lines.product_id = list_added.product_id
    where
        product_lines.action not in ('added', 'removed')
        and list_added.product_id is null
    qualify row_number() over (
        partition by
            number_carts.profile_id,
            number_carts.cart_number,
            product_lines.product_id
        order by
            number_carts.occurred_at asc,
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
