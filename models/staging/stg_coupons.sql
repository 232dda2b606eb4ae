-- One row per coupon applied or redeemed.
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
        action,
        {{ json_texts('properties', [
            '$.coupon_id',
            '$.order_id',
            '$.campaign_id',
        ]) }} as fields
    from events
    where kind = 'coupon'

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        {{ known_name('fields[1]', 'any') }} as coupon_id,
        {{ order_id_in('fields[2]') }} as order_id,
        {{ known_name('fields[3]', 'any') }} as campaign_id
    from read_properties

)

select * from name_fields
