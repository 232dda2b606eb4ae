-- One row per set of identifiers seen in one message and member of it.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
) }}

with

message_identifiers as (

    select * from {{ ref('stg_identifiers') }}

),

message_identifier_sets as (

    select * from {{ ref('message_identifier_sets') }}

),

find_new_sets as (

    select
        identifier_set_id,
        min(batch_seq) as batch_seq,
        min(message_id) as message_id
    from message_identifier_sets
    where
        batch_seq > {{ last_batch() }}
        {%- if is_incremental() %}
        and identifier_set_id not in (
            select known.identifier_set_id from {{ this }} as known
        )
        {%- endif %}
    group by identifier_set_id

),

list_members as (

    select
        find_new_sets.identifier_set_id,
        message_identifiers.identifier_type,
        message_identifiers.identifier,
        find_new_sets.batch_seq
    from message_identifiers
    inner join find_new_sets
        on message_identifiers.message_id = find_new_sets.message_id

)

select * from list_members
