-- One row per order and product line, as the order was completed.
with

completions as (

    select * from {{ ref('stg_order_completions') }}

),

product_lines as (

    select * from {{ ref('stg_product_lines') }}

),

find_lines as (

    select
        completions.order_id,
        product_lines.line_number,
        completions.message_id,
        completions.occurred_at as ordered_at,
        product_lines.product_id,
        product_lines.product_name,
        product_lines.category,
        product_lines.brand,
        product_lines.price,
        product_lines.currency,
        product_lines.quantity
    from completions
    inner join product_lines on completions.message_id = product_lines.message_id

)

select * from find_lines
