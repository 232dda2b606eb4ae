-- The money of all profiles is that of all orders that are not cancelled, less the
-- refunds that no order has and whose profile has an order.
{{ config(meta={'dagster': {'ref': {'name': 'rfm'}}}) }}

with

orders as (

    select * from {{ ref('stg_orders') }}

),

refunds as (

    select * from {{ ref('stg_refunds') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

rfm as (

    select * from {{ ref('rfm') }}

),

sum_money as (

    select
        (
            select coalesce(sum(orders.base_revenue_amount), 0)
            from orders
            inner join profile_events on orders.message_id = profile_events.message_id
            where orders.status <> 'cancelled'
        ) as order_amount,
        (
            select coalesce(sum(refunds.base_refund_amount), 0)
            from refunds
            inner join profile_events on refunds.message_id = profile_events.message_id
            inner join rfm on profile_events.profile_id = rfm.profile_id
            where refunds.order_id is null
        ) as refund_amount,
        (select coalesce(sum(monetary_amount), 0) from rfm) as monetary_amount,
        (select coalesce(sum(revenue_amount), 0) from {{ ref('profiles') }})
            as profile_amount

)

select * from sum_money
where
    monetary_amount <> order_amount - refund_amount
    or profile_amount <> monetary_amount
