-- One row per completed order, net of the refunds linked to it.
with

completions as (

    select * from {{ ref('stg_order_completions') }}

),

amendments as (

    select * from {{ ref('stg_order_amendments') }}

),

exchange_rates as (

    select * from {{ ref('stg_exchange_rates') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

state_status as (

    select
        completions.*,
        cast(amendments.gross_revenue_amount as decimal(18, 2))
            as gross_revenue_amount,
        case
            when amendments.is_cancelled then 'cancelled'
            when not amendments.has_refund then 'completed'
            when amendments.refund_amount >= amendments.gross_revenue_amount
                then 'refunded'
            else 'partially_refunded'
        end as status,
        cast(
            greatest(amendments.gross_revenue_amount - amendments.refund_amount, 0)
            as decimal(18, 2)
        ) as net_amount,
        coalesce(completions.currency, run.base_currency) as order_currency
    from completions
    cross join run
    inner join amendments on completions.order_id = amendments.order_id

),

convert_amounts as (

    select
        state_status.order_id,
        state_status.message_id,
        state_status.anonymous_id,
        state_status.user_id,
        state_status.occurred_at as ordered_at,
        state_status.status,
        state_status.net_amount as revenue_amount,
        state_status.gross_revenue_amount,
        state_status.order_currency as currency,
        {{ exchanged('state_status.net_amount', 'exchange_rates.rate') }}
            as base_revenue_amount,
        state_status.discount_amount,
        state_status.shipping_amount,
        state_status.coupon,
        state_status.cart_id,
        state_status.store_id,
        case when state_status.store_id is null then 'online' else 'store' end
            as source,
        state_status.status in ('completed', 'partially_refunded') as is_conversion
    from state_status
    left join exchange_rates
        on state_status.order_currency = exchange_rates.currency

)

select * from convert_amounts
