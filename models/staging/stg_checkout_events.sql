-- One row per step of a checkout.
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
            '$.checkout_id',
            '$.order_id',
            '$.revenue',
            '$.value',
            '$.total',
            '$.cart_id',
        ]) }} as fields
    from events
    where kind = 'checkout'

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        event,
        action,
        {{ known_name('fields[1]') }} as checkout_id,
        {{ order_id_in('fields[2]') }} as order_id,
        {{ known_name('fields[6]') }} as cart_id,
        coalesce(
            {{ amount('fields[3]') }},
            {{ amount('fields[4]') }},
            {{ amount('fields[5]') }}
        ) as revenue_amount,
        {{ unread([
            ('revenue', 'fields[3]', amount('fields[3]')),
            ('value', 'fields[4]', amount('fields[4]')),
            ('total', 'fields[5]', amount('fields[5]')),
        ]) }} as unread
    from read_properties

)

select * from name_fields
