-- One row per change of or look at a cart.
{{ config(materialized='by_message') }}

with

events as (

    select * from {{ ref('stg_events') }}
    where {{ is_new_message() }}

),

read_properties as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        event,
        action,
        {{ json_texts('properties', [
            '$.cart_id',
            '$.product_id',
            '$.sku',
            '$.name',
            '$.category',
            '$.brand',
            '$.price',
            '$.quantity',
            '$.currency',
        ]) }} as fields
    from events
    where kind = 'cart'

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        event,
        action,
        {{ known_name('fields[1]') }} as cart_id,
        coalesce(
            {{ known_name('fields[2]', 'any') }},
            {{ known_name('fields[3]', 'any') }}
        ) as product_id,
        {{ known_name('fields[4]', 'any') }} as product_name,
        {{ known_name('fields[5]', 'any') }} as category,
        {{ known_name('fields[6]', 'any') }} as brand,
        {{ amount('fields[7]') }} as price,
        {{ quantity('fields[8]') }} as quantity,
        upper(nullif(trim(fields[9]), '')) as currency,
        {{ unread([
            ('price', 'fields[7]', amount('fields[7]')),
            ('quantity', 'fields[8]', quantity('fields[8]')),
        ]) }} as unread
    from read_properties

)

select * from name_fields
