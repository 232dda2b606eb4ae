-- One row per look at products: searched, listed, clicked, viewed, price checked.
with

events as (

    select * from {{ ref('stg_events') }}

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
        coalesce(nullif(fields[1], ''), nullif(fields[2], '')) as product_id,
        nullif(fields[3], '') as product_name,
        nullif(fields[4], '') as category,
        nullif(fields[5], '') as brand,
        {{ amount('fields[6]') }} as price,
        upper(nullif(trim(fields[7]), '')) as currency,
        nullif(fields[8], '') as store_id,
        nullif(fields[9], '') as query,
        {{ unread([('price', 'fields[6]', amount('fields[6]'))]) }} as unread
    from read_properties

)

select * from name_fields
