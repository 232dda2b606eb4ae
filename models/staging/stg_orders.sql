-- One row per completed order, net of the refunds linked to it.
with

order_events as (

    select * from {{ ref('stg_order_events') }}

),

refunds as (

    select * from {{ ref('stg_refunds') }}

),

exchange_rates as (

    select * from {{ ref('exchange_rates') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

first_completions as (

    select * from order_events
    where action = 'completed'
    qualify row_number() over (
        partition by order_id order by occurred_at asc, message_id asc
    ) = 1

),

newest_updates as (

    select
        order_id,
        revenue_amount
    from order_events
    where action = 'updated' and revenue_amount is not null
    qualify row_number() over (
        partition by order_id order by occurred_at desc, message_id desc
    ) = 1

),

cancellations as (

    select distinct order_id
    from order_events
    where action = 'cancelled'

),

sum_refunds as (

    select
        order_id,
        sum(refund_amount) as refund_amount
    from refunds
    where order_id is not null
    group by order_id

),

net_refunds as (

    select
        first_completions.*,
        run.base_currency,
        coalesce(first_completions.currency, run.base_currency) as order_currency,
        coalesce(
            newest_updates.revenue_amount, first_completions.revenue_amount, 0
        ) as gross_amount,
        coalesce(sum_refunds.refund_amount, 0) as refund_amount,
        sum_refunds.order_id is not null as has_refund,
        cancellations.order_id is not null as is_cancelled
    from first_completions
    cross join run
    left join newest_updates on first_completions.order_id = newest_updates.order_id
    left join cancellations on first_completions.order_id = cancellations.order_id
    left join sum_refunds on first_completions.order_id = sum_refunds.order_id

),

state_status as (

    select
        *,
        case
            when is_cancelled then 'cancelled'
            when has_refund and refund_amount >= gross_amount then 'refunded'
            when has_refund then 'partially_refunded'
            else 'completed'
        end as status,
        greatest(gross_amount - refund_amount, 0) as net_amount
    from net_refunds

),

convert_amounts as (

    select
        state_status.order_id,
        state_status.message_id,
        state_status.anonymous_id,
        state_status.user_id,
        state_status.occurred_at as ordered_at,
        state_status.status,
        cast(state_status.net_amount as decimal(18, 2)) as revenue_amount,
        cast(state_status.gross_amount as decimal(18, 2)) as gross_revenue_amount,
        state_status.order_currency as currency,
        cast(
            case
                when state_status.order_currency = state_status.base_currency
                    then state_status.net_amount
                else state_status.net_amount * exchange_rates.rate
            end as decimal(18, 2)
        ) as base_revenue_amount,
        cast(state_status.discount_amount as decimal(18, 2)) as discount_amount,
        cast(state_status.shipping_amount as decimal(18, 2)) as shipping_amount,
        state_status.coupon,
        state_status.store_id,
        case when state_status.store_id is null then 'online' else 'store' end
            as source,
        state_status.status in ('completed', 'partially_refunded') as is_conversion
    from state_status
    left join exchange_rates
        on
            state_status.order_currency = exchange_rates.currency
            and state_status.base_currency = exchange_rates.base_currency

)

select * from convert_amounts
