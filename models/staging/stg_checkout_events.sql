-- One row per step of a checkout.
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
        event,
        action,
        {{ json_text('properties', '$.checkout_id') }} as checkout_id,
        {{ json_text('properties', '$.order_id') }} as order_id,
        coalesce(
            {{ json_amount('properties', '$.revenue') }},
            {{ json_amount('properties', '$.value') }},
            {{ json_amount('properties', '$.total') }}
        ) as revenue_amount
    from events
    where kind = 'checkout'

)

select * from name_fields
