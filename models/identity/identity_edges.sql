-- One row per pair of identifiers that occurred together in a message.
with

identifier_set_members as (

    select * from {{ ref('identifier_set_members') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

number_members as (

    select
        identifier_set_members.identifier_set_id,
        identifier_set_members.evidence_message_id,
        identifier_set_members.first_seen_at,
        identifier_set_members.last_seen_at,
        identifier_set_members.message_count,
        identifiers.identifier_seq,
        identifiers.identifier_type,
        identifiers.identifier,
        identifiers.type_rank,
        identifiers.strength,
        identifiers.is_hub
    from identifier_set_members
    inner join identifiers
        on
            identifier_set_members.identifier_type = identifiers.identifier_type
            and identifier_set_members.identifier = identifiers.identifier

),

pair_members as (

    select
        stronger.identifier_seq,
        weaker.identifier_seq as linked_identifier_seq,
        stronger.identifier_type,
        stronger.identifier,
        weaker.identifier_type as linked_identifier_type,
        weaker.identifier as linked_identifier,
        case
            when stronger.strength = 'strong' and weaker.strength = 'strong' then 1
            when stronger.strength = 'strong' or weaker.strength = 'strong' then 2
            else 3
        end as link_class,
        stronger.is_hub or weaker.is_hub as is_hub_link,
        min(stronger.first_seen_at) as first_seen_at,
        max(stronger.last_seen_at) as last_seen_at,
        cast(sum(stronger.message_count) as bigint) as evidence_count,
        min(stronger.evidence_message_id) as evidence_message_id
    from number_members as stronger
    inner join number_members as weaker
        on
            stronger.identifier_set_id = weaker.identifier_set_id
            and (
                stronger.type_rank < weaker.type_rank
                or (
                    stronger.type_rank = weaker.type_rank
                    and stronger.identifier_seq < weaker.identifier_seq
                )
            )
    group by all

)

select * from pair_members
