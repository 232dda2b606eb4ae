-- One row per order that counts as a conversion.
with

orders as (

    select * from {{ ref('stg_orders') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

count_kept_orders as (

    select
        {{ surrogate_key(["'order'", 'orders.order_id']) }} as conversion_id,
        profile_events.profile_id,
        orders.order_id,
        orders.ordered_at as converted_at,
        orders.source,
        orders.base_revenue_amount as revenue_amount
    from orders
    inner join profile_events on orders.message_id = profile_events.message_id
    where orders.is_conversion

)

select * from count_kept_orders
