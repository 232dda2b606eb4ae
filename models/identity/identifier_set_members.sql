-- One row per set of identifiers seen in one message and member of it.
with

message_identifiers as (

    select * from {{ ref('stg_identifiers') }}

),

message_identifier_sets as (

    select * from {{ ref('message_identifier_sets') }}

),

summarise_sets as (

    select
        identifier_set_id,
        min(message_id) as evidence_message_id,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        count(*) as message_count
    from message_identifier_sets
    group by identifier_set_id

),

list_members as (

    select
        summarise_sets.identifier_set_id,
        message_identifiers.identifier_type,
        message_identifiers.identifier,
        summarise_sets.evidence_message_id,
        summarise_sets.first_seen_at,
        summarise_sets.last_seen_at,
        summarise_sets.message_count
    from message_identifiers
    inner join summarise_sets
        on message_identifiers.message_id = summarise_sets.evidence_message_id

)

select * from list_members
