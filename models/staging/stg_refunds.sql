-- One row per refund; `order_id` is null where the source gives no link to an order.
with

order_events as (

    select * from {{ ref('stg_order_events') }}

),

completions as (

    select * from {{ ref('stg_order_completions') }}

),

product_lines as (

    select * from {{ ref('stg_product_lines') }}
    where kind = 'order' and product_id is not null

),

exchange_rates as (

    select * from {{ ref('stg_exchange_rates') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

first_refund_messages as (

    select * from order_events
    where action = 'refunded'
    qualify row_number() over (
        partition by refund_id, order_id order by occurred_at asc, message_id asc
    ) = 1

),

-- some shops count the refunds of each order on their own
name_refunds as (

    select
        *,
        case
            when row_number() over (
                partition by refund_id order by occurred_at asc, message_id asc
            ) = 1
                then refund_id
            else 'message:' || message_id
        end as known_refund_id
    from first_refund_messages

),

link_orders as (

    select
        refunds.known_refund_id as refund_id,
        refunds.message_id,
        completions.order_id,
        completions.message_id as order_message_id,
        refunds.occurred_at as refunded_at,
        refunds.revenue_amount,
        refunds.states_amount,
        refunds.has_refund_id,
        refunds.tool,
        completions.revenue_amount as order_revenue_amount,
        coalesce(refunds.currency, completions.currency, run.base_currency)
            as currency,
        coalesce(completions.currency, run.base_currency) as order_currency
    from name_refunds as refunds
    cross join run
    left join completions on refunds.order_id = completions.order_id

),

price_products as (

    select
        message_id,
        product_id,
        max(price) as price
    from product_lines
    group by message_id, product_id

),

-- what products came to; unknown where the price of one of them is
sum_products as (

    select
        link_orders.refund_id,
        case
            when
                count(*) = count(coalesce(product_lines.price, price_products.price))
                then try_cast(
                    sum(
                        cast(
                            coalesce(product_lines.price, price_products.price)
                            as decimal(38, 2)
                        ) * product_lines.quantity
                    ) as decimal(14, 2)
                )
        end as products_amount
    from link_orders
    inner join product_lines on link_orders.message_id = product_lines.message_id
    left join price_products
        on
            link_orders.order_message_id = price_products.message_id
            and product_lines.product_id = price_products.product_id
    group by link_orders.refund_id

),

-- a refund that names neither an amount nor products is of the whole order, as in the
-- Segment spec; an amount that cannot be read is no amount
state_amounts as (

    select
        link_orders.*,
        case
            when link_orders.revenue_amount is not null
                then abs(link_orders.revenue_amount)
            when link_orders.states_amount then null
            when sum_products.refund_id is not null
                then abs(sum_products.products_amount)
            else abs(link_orders.order_revenue_amount)
        end as known_amount,
        link_orders.revenue_amount is null
        and not link_orders.states_amount
        and sum_products.refund_id is null as is_whole_order
    from link_orders
    left join sum_products on link_orders.refund_id = sum_products.refund_id

),

-- of equal refunds of an order, each tool tells the first, the second and so on once
number_by_tool as (

    select
        *,
        row_number() over (
            partition by order_id, currency, known_amount, tool
            order by refunded_at asc, message_id asc
        ) as number_by_tool
    from state_amounts

),

look_at_first as (

    select
        *,
        first_value(refunded_at) over told as first_at,
        first_value(tool) over told as first_tool,
        first_value(has_refund_id) over told as has_first_id
    from number_by_tool
    window told as (
        partition by order_id, currency, known_amount, number_by_tool
        order by refunded_at asc, message_id asc
    )

),

-- what another tool told before is the same refund, unless each has an id of its own
find_retold as (

    select
        *,
        coalesce(
            order_id is not null
            and known_amount > 0
            and tool <> first_tool
            and {{ seconds_between('first_at', 'refunded_at') }}
            <= 3600 * {{ var('refund_retold_hours') }},
            false
        ) as is_alike
    from look_at_first

),

exchange_amounts as (

    select
        refund_id,
        message_id,
        order_id,
        refunded_at,
        cast(coalesce(known_amount, 0) as decimal(18, 2)) as refund_amount,
        known_amount is null as is_amount_unknown,
        is_alike as is_perhaps_retold,
        case when is_whole_order then order_currency else currency end as currency,
        order_currency
    from find_retold
    where not is_alike or (has_refund_id and has_first_id)

),

convert_amounts as (

    select
        exchange_amounts.refund_id,
        exchange_amounts.message_id,
        exchange_amounts.order_id,
        exchange_amounts.refunded_at,
        exchange_amounts.refund_amount,
        exchange_amounts.is_amount_unknown,
        exchange_amounts.is_perhaps_retold,
        exchange_amounts.currency,
        {{ exchanged('exchange_amounts.refund_amount', 'exchange_rates.rate') }}
            as base_refund_amount,
        case
            when exchange_amounts.currency = exchange_amounts.order_currency
                then exchange_amounts.refund_amount
            else cast(
                try_cast(
                    exchange_amounts.refund_amount
                    * cast(exchange_rates.rate as double)
                    / cast(order_rates.rate as double) as decimal(14, 2)
                ) as decimal(18, 2)
            )
        end as order_refund_amount
    from exchange_amounts
    left join exchange_rates
        on exchange_amounts.currency = exchange_rates.currency
    left join exchange_rates as order_rates
        on exchange_amounts.order_currency = order_rates.currency

)

select * from convert_amounts
