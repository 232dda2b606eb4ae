-- One row per look at products: searched, listed, clicked, viewed, price checked.
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
            '$.product_id',
            '$.sku',
            '$.name',
            '$.category',
            '$.brand',
            '$.price',
            '$.currency',
            '$.store_id',
            '$.query',
        ]) }} as fields
    from events
    where kind = 'product_view'

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        event,
        action,
        coalesce(
            {{ known_name('fields[1]', 'any') }},
            {{ known_name('fields[2]', 'any') }}
        ) as product_id,
        {{ known_name('fields[3]', 'any') }} as product_name,
        {{ known_name('fields[4]', 'any') }} as category,
        {{ known_name('fields[5]', 'any') }} as brand,
        {{ amount('fields[6]') }} as price,
        upper(nullif(trim(fields[7]), '')) as currency,
        {{ known_name('fields[8]', 'any') }} as store_id,
        nullif(fields[9], '') as query,
        {{ unread([('price', 'fields[6]', amount('fields[6]'))]) }} as unread
    from read_properties

)

select * from name_fields
