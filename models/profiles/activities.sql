-- One row per message in which a customer did, or met with, something that features
-- count, as known at that moment: later refunds and corrections do not reach back.
with

orders as (

    select * from {{ ref('stg_orders') }}

),

order_events as (

    select * from {{ ref('stg_order_events') }}

),

refunds as (

    select * from {{ ref('stg_refunds') }}

),

exchange_rates as (

    select * from {{ ref('stg_exchange_rates') }}

),

value_orders as (

    select
        orders.message_id,
        case when orders.source = 'store' then 'store_order' else 'online_order' end
            as activity,
        {{ exchanged('order_events.revenue_amount', 'exchange_rates.rate') }} as amount
    from orders
    inner join order_events on orders.message_id = order_events.message_id
    left join exchange_rates on orders.currency = exchange_rates.currency

),

list_activities as (

    select
        message_id,
        activity,
        amount
    from value_orders
    union all
    select
        message_id,
        'refund' as activity,
        base_refund_amount as amount
    from refunds
    union all
    select
        message_id,
        'cancellation' as activity,
        null as amount
    from order_events
    where action = 'cancelled'
    {%- for relation, activity, condition in [
        ('stg_product_views', 'product_view', "action <> 'price_checked'"),
        ('stg_cart_events', 'cart_add', "action = 'added'"),
        ('stg_checkout_events', 'checkout', "action = 'started'"),
        ('stg_coupons', 'coupon', 'true'),
        (
            'stg_message_events', 'message_click',
            "interaction = 'clicked' and not is_machine",
        ),
        (
            'stg_message_events', 'message_open',
            "interaction = 'opened' and not is_machine",
        ),
        (
            'stg_service_events', 'service_issue',
            "kind in ('ticket_opened', 'delivery_delayed')",
        ),
    ] %}
    union all
    select message_id, '{{ activity }}' as activity, null as amount
    from {{ ref(relation) }}
    where {{ condition }}
    {%- endfor %}

),

type_columns as (

    select
        message_id,
        activity,
        cast(coalesce(amount, 0) as decimal(18, 2)) as amount
    from list_activities

)

select * from type_columns
