-- One row per pair of identifiers that belong together by some evidence.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['identifier_seq', 'linked_identifier_seq'],
    on_schema_change='fail',
) }}

with

message_identifier_sets as (

    select * from {{ ref('message_identifier_sets') }}

),

identifier_set_members as (

    select * from {{ ref('identifier_set_members') }}

),

identifier_activity as (

    select * from {{ ref('identifier_activity') }}

),

match_pairs as (

    select * from {{ ref('match_pairs') }}

),

known as (

    {% if is_incremental() %}
        select * from {{ this }}
    {% else %}
        select
            cast(null as bigint) as identifier_seq,
            cast(null as bigint) as linked_identifier_seq,
            cast(null as varchar) as source,
            cast(null as timestamp) as first_seen_at,
            cast(null as timestamp) as last_seen_at,
            cast(0 as bigint) as evidence_count,
            cast(null as varchar) as evidence_message_id,
            cast(null as bigint) as new_seq,
            cast(null as bigint) as moved_seq
    {% endif %}

),

summarise_sets as (

    select
        identifier_set_id,
        max(batch_seq) as batch_seq,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        count(*) as message_count,
        min(message_id) as evidence_message_id
    from message_identifier_sets
    where batch_seq > {{ last_batch() }}
    group by identifier_set_id

),

number_members as (

    select
        summarise_sets.*,
        identifier_activity.identifier_seq,
        identifier_activity.identifier,
        identifier_activity.type_rank,
        identifier_activity.strength
    from summarise_sets
    inner join identifier_set_members as members
        on summarise_sets.identifier_set_id = members.identifier_set_id
    inner join identifier_activity
        on
            members.identifier_type = identifier_activity.identifier_type
            and members.identifier = identifier_activity.identifier
            and identifier_activity.batch_seq > {{ last_batch() }}

),

pair_members as (

    select
        stronger.identifier_seq,
        weaker.identifier_seq as linked_identifier_seq,
        'message' as source,
        case
            when stronger.strength = 'strong' and weaker.strength = 'strong' then 1
            when stronger.strength = 'strong' or weaker.strength = 'strong' then 2
            else 3
        end as link_class,
        min(stronger.first_seen_at) as first_seen_at,
        max(stronger.last_seen_at) as last_seen_at,
        sum(stronger.message_count) as evidence_count,
        min(stronger.evidence_message_id) as evidence_message_id,
        cast(null as double) as match_weight,
        max(stronger.batch_seq) as batch_seq
    from number_members as stronger
    inner join number_members as weaker
        on
            stronger.identifier_set_id = weaker.identifier_set_id
            and (
                stronger.type_rank < weaker.type_rank
                or (
                    stronger.type_rank = weaker.type_rank
                    and stronger.identifier < weaker.identifier
                )
            )
    group by 1, 2, 3, 4

),

add_matches as (

    select * from pair_members
    union all
    select
        match_pairs.identifier_seq,
        match_pairs.linked_identifier_seq,
        'match' as source,
        4 as link_class,
        match_pairs.first_seen_at,
        cast(null as timestamp) as last_seen_at,
        0 as evidence_count,
        cast(null as varchar) as evidence_message_id,
        match_pairs.match_weight,
        (select max(batch_seq) from identifier_activity) as batch_seq
    from match_pairs
    left join known
        on
            match_pairs.identifier_seq = known.identifier_seq
            and match_pairs.linked_identifier_seq = known.linked_identifier_seq
    left join pair_members
        on
            match_pairs.identifier_seq = pair_members.identifier_seq
            and match_pairs.linked_identifier_seq = pair_members.linked_identifier_seq
    where
        pair_members.identifier_seq is null
        and (
            known.identifier_seq is null
            or (
                known.source = 'match'
                and match_pairs.first_seen_at < known.first_seen_at
            )
        )

),

add_to_known as (

    select
        pairs.identifier_seq,
        pairs.linked_identifier_seq,
        pairs.source,
        pairs.link_class,
        case
            when known.source = pairs.source
                then least(pairs.first_seen_at, known.first_seen_at)
            else pairs.first_seen_at
        end as first_seen_at,
        greatest(pairs.last_seen_at, known.last_seen_at) as last_seen_at,
        cast(pairs.evidence_count + coalesce(known.evidence_count, 0) as bigint)
            as evidence_count,
        least(pairs.evidence_message_id, known.evidence_message_id)
            as evidence_message_id,
        pairs.match_weight,
        coalesce(known.new_seq, pairs.batch_seq) as new_seq,
        case
            when
                known.source = pairs.source
                and pairs.first_seen_at >= known.first_seen_at
                then known.moved_seq
            else pairs.batch_seq
        end as moved_seq,
        pairs.batch_seq
    from add_matches as pairs
    left join known
        on
            pairs.identifier_seq = known.identifier_seq
            and pairs.linked_identifier_seq = known.linked_identifier_seq

)

select * from add_to_known
