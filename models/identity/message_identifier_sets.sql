-- One row per message that names somebody: which set of identifiers it carries.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
) }}

with

message_identifiers as (

    select * from {{ ref('stg_identifiers') }}

),

combine_identifiers as (

    select
        message_id,
        min(occurred_at) as occurred_at,
        {{ identifier_set('identifier_type', 'identifier') }} as identifier_set_id,
        {{ last_batch() }} + 1 as batch_seq
    from message_identifiers
    {%- if is_incremental() %}
    where message_id not in (select known.message_id from {{ this }} as known)
    {%- endif %}
    group by message_id

)

select * from combine_identifiers
