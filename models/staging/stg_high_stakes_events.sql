-- One row per moment at which a customer must not be sold to.
{{ config(materialized='by_message') }}

with

events as (

    select * from {{ ref('stg_events') }}
    where {{ is_new_message() }}

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        event,
        action
    from events
    where kind = 'high_stakes'

)

select * from name_fields
