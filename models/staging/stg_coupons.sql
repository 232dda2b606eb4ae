-- One row per coupon applied or redeemed.
with

events as (

    select * from {{ ref('stg_events') }}

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        {{ json_text('properties', '$.coupon_id') }} as coupon_id,
        {{ json_text('properties', '$.order_id') }} as order_id,
        {{ json_text('properties', '$.campaign_id') }} as campaign_id
    from events
    where kind = 'coupon'

)

select * from name_fields
