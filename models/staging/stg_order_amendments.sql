-- One row per order: what later messages changed of it.
with

order_events as (

    select * from {{ ref('stg_order_events') }}

),

completions as (

    select * from {{ ref('stg_order_completions') }}

),

refunds as (

    select * from {{ ref('stg_refunds') }}

),

sum_refunds as (

    select
        order_id,
        sum(refund_amount) as refund_amount
    from refunds
    where order_id is not null
    group by order_id

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

amend_orders as (

    select
        completions.order_id,
        cast(
            coalesce(newest_updates.revenue_amount, completions.revenue_amount, 0)
            as decimal(18, 2)
        ) as gross_revenue_amount,
        cast(coalesce(sum_refunds.refund_amount, 0) as decimal(18, 2))
            as refund_amount,
        sum_refunds.order_id is not null as has_refund,
        cancellations.order_id is not null as is_cancelled
    from completions
    left join newest_updates on completions.order_id = newest_updates.order_id
    left join cancellations on completions.order_id = cancellations.order_id
    left join sum_refunds on completions.order_id = sum_refunds.order_id

)

select * from amend_orders
