-- One row per service moment: ticket, delay, score, review, referral.
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
        action as kind,
        {{ json_text('properties', '$.ticket_id') }} as ticket_id,
        {{ json_text('properties', '$.order_id') }} as order_id,
        try_cast(
            coalesce(
                {{ json_text('properties', '$.score') }},
                {{ json_text('properties', '$.rating') }}
            ) as integer
        ) as score,
        {{ json_text('properties', '$.product_id') }} as product_id
    from events
    where kind = 'service'

)

select * from name_fields
