-- One row per service moment: ticket, delay, score, review, referral.
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
        action as kind,
        {{ json_texts('properties', [
            '$.ticket_id',
            '$.order_id',
            '$.score',
            '$.rating',
            '$.product_id',
        ]) }} as fields
    from events
    where kind = 'service'

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        kind,
        {{ known_name('fields[1]') }} as ticket_id,
        {{ order_id_in('fields[2]') }} as order_id,
        coalesce(
            try_cast(fields[3] as integer), try_cast(fields[4] as integer)
        ) as score,
        {{ known_name('fields[5]', 'any') }} as product_id,
        {{ unread([
            ('score', 'fields[3]', 'try_cast(fields[3] as integer)'),
            ('rating', 'fields[4]', 'try_cast(fields[4] as integer)'),
        ]) }} as unread
    from read_properties

)

select * from name_fields
