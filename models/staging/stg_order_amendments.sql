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

exchange_rates as (

    select * from {{ ref('stg_exchange_rates') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

sum_refunds as (

    select
        order_id,
        sum(coalesce(order_refund_amount, 0)) as refund_amount
    from refunds
    where order_id is not null
    group by order_id

),

-- what the order came to by each message, in the currency of the order
list_statements as (

    select
        completions.order_id,
        order_events.message_id,
        order_events.occurred_at,
        order_events.action,
        case
            when
                order_events.currency is null
                or order_events.currency
                = coalesce(completions.currency, run.base_currency)
                then order_events.revenue_amount
            else cast(
                try_cast(
                    order_events.revenue_amount
                    * cast(exchange_rates.rate as double)
                    / cast(order_rates.rate as double) as decimal(14, 2)
                ) as decimal(18, 2)
            )
        end as amount
    from order_events
    inner join completions on order_events.order_id = completions.order_id
    cross join run
    left join exchange_rates on order_events.currency = exchange_rates.currency
    left join exchange_rates as order_rates
        on coalesce(completions.currency, run.base_currency) = order_rates.currency
    where
        order_events.action = 'updated'
        or order_events.message_id = completions.message_id

),

newest_updates as (

    select * from list_statements
    where action = 'updated' and amount is not null
    qualify row_number() over (
        partition by order_id order by occurred_at desc, message_id desc
    ) = 1

),

sum_refunds_before_updates as (

    select
        newest_updates.order_id,
        sum(coalesce(refunds.order_refund_amount, 0)) as refund_amount
    from newest_updates
    inner join refunds
        on
            newest_updates.order_id = refunds.order_id
            and refunds.refunded_at <= {{ add_seconds(
                'newest_updates.occurred_at',
                '3600 * ' ~ var('order_update_leads_refund_hours')
            ) }}
    group by newest_updates.order_id

),

-- an update that comes to what an earlier message did, less the refunds, has taken
-- them off already
find_net_updates as (

    select distinct
        newest_updates.order_id,
        sum_refunds_before_updates.refund_amount
    from newest_updates
    inner join sum_refunds_before_updates
        on newest_updates.order_id = sum_refunds_before_updates.order_id
    inner join list_statements
        on
            newest_updates.order_id = list_statements.order_id
            and newest_updates.message_id <> list_statements.message_id
            and newest_updates.amount + sum_refunds_before_updates.refund_amount
            = list_statements.amount

),

cancellations as (

    select distinct order_id
    from order_events
    where action = 'cancelled'

),

amend_orders as (

    select
        completions.order_id,
        coalesce(
            newest_updates.amount + coalesce(find_net_updates.refund_amount, 0),
            completions.revenue_amount,
            0
        ) as gross_revenue_amount,
        completions.total_amount,
        completions.shipping_amount + completions.tax_amount as extra_amount,
        coalesce(sum_refunds.refund_amount, 0) as refund_amount,
        sum_refunds.order_id is not null as has_refund,
        cancellations.order_id is not null as is_cancelled
    from completions
    left join newest_updates on completions.order_id = newest_updates.order_id
    left join find_net_updates on completions.order_id = find_net_updates.order_id
    left join cancellations on completions.order_id = cancellations.order_id
    left join sum_refunds on completions.order_id = sum_refunds.order_id

),

-- a refund may give back shipping and tax too
measure_excess as (

    select
        order_id,
        gross_revenue_amount,
        refund_amount,
        greatest(
            refund_amount
            - greatest(total_amount, gross_revenue_amount + extra_amount),
            0
        ) as excess_refund_amount,
        has_refund,
        is_cancelled
    from amend_orders

)

select * from measure_excess
