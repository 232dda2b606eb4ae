-- One row per view of an experiment's variation.
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
        {{ json_text('properties', '$.experiment_id') }} as experiment_id,
        {{ json_text('properties', '$.experiment_name') }} as experiment_name,
        {{ json_text('properties', '$.variation_id') }} as variation_id,
        {{ json_text('properties', '$.variation_name') }} as variation_name
    from events
    where kind = 'experiment'

)

select * from name_fields
