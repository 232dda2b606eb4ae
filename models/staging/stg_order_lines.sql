-- One row per order and product line, as the order was completed.
with

events as (

    select * from {{ ref('stg_events') }}

),

completions as (

    select * from {{ ref('stg_order_completions') }}

),

list_products as (

    select
        completions.order_id,
        completions.message_id,
        completions.occurred_at as ordered_at,
        {{ json_objects('events.properties', '$.products') }} as products
    from completions
    inner join events on completions.message_id = events.message_id

),

number_lines as (

    select
        *,
        unnest(range(1, len(products) + 1)) as line_number
    from list_products

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
