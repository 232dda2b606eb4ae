-- One row per message about an order: completed, updated, refunded, cancelled.
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
        action,
        {{ json_texts('properties', [
            '$.order_id',
            '$.revenue',
            '$.subtotal',
            '$.total',
            '$.shipping',
            '$.tax',
            '$.discount',
            '$.coupon',
            '$.currency',
            '$.store_id',
            '$.affiliation',
            '$.channel',
            '$.refund_id',
        ]) }} as fields
    from events
    where kind = 'order'

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        coalesce(nullif(fields[1], ''), 'message:' || message_id) as order_id,
        try_cast(fields[2] as decimal(18, 2)) as revenue,
        try_cast(fields[3] as decimal(18, 2)) as subtotal,
        try_cast(fields[4] as decimal(18, 2)) as total,
        coalesce(try_cast(fields[5] as decimal(18, 2)), 0) as shipping_amount,
        coalesce(try_cast(fields[6] as decimal(18, 2)), 0) as tax_amount,
        coalesce(try_cast(fields[7] as decimal(18, 2)), 0) as discount_amount,
        nullif(fields[8], '') as coupon,
        upper(nullif(fields[9], '')) as currency,
        nullif(fields[10], '') as stated_store_id,
        nullif(fields[11], '') as affiliation,
        lower(nullif(fields[12], '')) as sales_channel,
        nullif(fields[13], '') as refund_id
    from read_properties

),

state_revenue as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        order_id,
        cast(
            coalesce(revenue, subtotal, total - shipping_amount - tax_amount)
            as decimal(18, 2)
        ) as revenue_amount,
        shipping_amount,
        tax_amount,
        discount_amount,
        coupon,
        currency,
        coalesce(
            stated_store_id,
            case when sales_channel = 'store' then affiliation end
        ) as store_id,
        coalesce(refund_id, message_id) as refund_id
    from name_fields

)

select * from state_revenue
