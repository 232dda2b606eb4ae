-- One row per message about an order, a cart or a checkout and product that it lists.
{{ config(materialized='by_message') }}

with

events as (

    select * from {{ ref('stg_events') }}
    where {{ is_new_message() }} and kind in ('order', 'cart', 'checkout')

),

list_products as (

    select
        message_id,
        kind,
        action,
        upper(nullif(trim({{ json_text('properties', '$.currency') }}), ''))
            as currency,
        {{ json_objects('properties', '$.products') }} as products
    from events

),

number_lines as (

    select
        message_id,
        kind,
        action,
        currency,
        unnest(range(1, len(products) + 1)) as line_number,
        unnest(products) as product
    from list_products

),

product_keys as (

    {{ key_spellings('product', 'number_lines', 'product') | indent(4) }}

),

read_lines as (

    select
        number_lines.message_id,
        number_lines.kind,
        number_lines.action,
        number_lines.currency,
        number_lines.line_number,
        cast(number_lines.product as varchar) as product,
        json_type(number_lines.product) as product_type,
        {{ json_texts(
            respelled('number_lines.product', 'product_keys.respellings'),
            [
                '$.product_id',
                '$.sku',
                '$.name',
                '$.category',
                '$.brand',
                '$.price',
                '$.quantity',
                '$.currency',
            ]
        ) }} as fields
    from number_lines
    left join product_keys
        on json_keys(number_lines.product) = product_keys.keys

),

name_fields as (

    select
        message_id,
        kind,
        action,
        line_number,
        coalesce(
            {{ known_name('fields[1]', 'any') }},
            {{ known_name('fields[2]', 'any') }}
        ) as product_id,
        {{ known_name('fields[3]', 'any') }} as product_name,
        {{ known_name('fields[4]', 'any') }} as category,
        {{ known_name('fields[5]', 'any') }} as brand,
        {{ amount('fields[6]') }} as price,
        coalesce(upper(nullif(trim(fields[8]), '')), currency) as currency,
        coalesce({{ quantity('fields[7]') }}, 1) as quantity,
        {{ unread([
            (
                'product',
                'product',
                "case when product_type = 'OBJECT' then product end",
            ),
            ('price', 'fields[6]', amount('fields[6]')),
            ('quantity', 'fields[7]', quantity('fields[7]')),
        ]) }} as unread
    from read_lines

)

select * from name_fields
