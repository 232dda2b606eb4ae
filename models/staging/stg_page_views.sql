-- One row per page or screen call.
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
        type,
        event as name,
        page_path,
        page_url,
        {{ json_text('properties', '$.category') }} as page_category
    from events
    where kind = 'page_view'

)

select * from name_fields
