-- One row per refund; `order_id` is null where the source gives no link to an order.
with

order_events as (

    select * from {{ ref('stg_order_events') }}

),

completions as (

    select * from {{ ref('stg_order_completions') }}

),

exchange_rates as (

    select * from {{ ref('exchange_rates') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

first_refund_messages as (

    select * from order_events
    where action = 'refunded'
    qualify row_number() over (
        partition by refund_id order by occurred_at asc, message_id asc
    ) = 1

),

link_orders as (

    select
        refunds.refund_id,
        refunds.message_id,
        completions.order_id,
        refunds.occurred_at as refunded_at,
        cast(
            abs(coalesce(refunds.revenue_amount, completions.revenue_amount, 0))
            as decimal(18, 2)
        ) as refund_amount,
        coalesce(
            refunds.currency, completions.currency, run.base_currency
        ) as currency,
        run.base_currency
    from first_refund_messages as refunds
    cross join run
    left join completions on refunds.order_id = completions.order_id

),

convert_amounts as (

    select
        link_orders.refund_id,
        link_orders.message_id,
        link_orders.order_id,
        link_orders.refunded_at,
        link_orders.refund_amount,
        link_orders.currency,
        {{ in_base_currency(
            'link_orders.refund_amount',
            'link_orders.currency',
            'link_orders.base_currency',
            'exchange_rates.rate',
        ) }} as base_refund_amount
    from link_orders
    left join exchange_rates
        on
            link_orders.currency = exchange_rates.currency
            and link_orders.base_currency = exchange_rates.base_currency

)

select * from convert_amounts
