-- One row per order and product line, as the order was completed.
with

order_events as (

    select * from {{ ref('stg_order_events') }}

),

orders as (

    select * from {{ ref('stg_orders') }}

),

number_lines as (

    select
        orders.order_id,
        orders.message_id,
        orders.ordered_at,
        order_events.products,
        unnest(range(1, len(order_events.products) + 1)) as line_number
    from orders
    inner join order_events on orders.message_id = order_events.message_id
    where order_events.products is not null

),

read_lines as (

    select
        order_id,
        line_number,
        message_id,
        ordered_at,
        {{ json_texts('products[line_number]', [
            '$.product_id',
            '$.sku',
            '$.name',
            '$.category',
            '$.brand',
            '$.price',
            '$.quantity',
        ]) }} as fields
    from number_lines

),

name_fields as (

    select
        order_id,
        line_number,
        message_id,
        ordered_at,
        coalesce(nullif(fields[1], ''), nullif(fields[2], '')) as product_id,
        nullif(fields[3], '') as product_name,
        nullif(fields[4], '') as category,
        nullif(fields[5], '') as brand,
        try_cast(fields[6] as decimal(18, 2)) as price,
        coalesce(try_cast(fields[7] as decimal(18, 3)), 1) as quantity
    from read_lines

)

select * from name_fields
