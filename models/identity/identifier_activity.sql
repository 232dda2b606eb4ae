-- One row per identifier ever seen: its number, and when it was seen.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='identifier_seq',
    on_schema_change='fail',
) }}

with

message_identifier_sets as (

    select * from {{ ref('message_identifier_sets') }}

),

identifier_set_members as (

    select * from {{ ref('identifier_set_members') }}

),

identifier_types as (

    select * from {{ ref('identifier_types') }}

),

known as (

    {% if is_incremental() %}
        select * from {{ this }}
    {% else %}
        select
            cast(null as bigint) as identifier_seq,
            cast(null as varchar) as identifier_type,
            cast(null as varchar) as identifier,
            cast(null as timestamp) as first_seen_at,
            cast(null as timestamp) as last_seen_at,
            cast(0 as bigint) as message_count,
            cast(null as ubigint) as identifier_hash64,
            cast(null as bigint) as moved_seq
    {% endif %}

),

summarise_sets as (

    select
        identifier_set_id,
        max(batch_seq) as batch_seq,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        count(*) as message_count
    from message_identifier_sets
    where batch_seq > {{ last_batch() }}
    group by identifier_set_id

),

sum_sightings as (

    select
        identifier_set_members.identifier_type,
        identifier_set_members.identifier,
        max(summarise_sets.batch_seq) as batch_seq,
        min(summarise_sets.first_seen_at) as first_seen_at,
        max(summarise_sets.last_seen_at) as last_seen_at,
        sum(summarise_sets.message_count) as message_count,
        {{ identifier_hash64(
            "identifier_set_members.identifier_type || '␟'"
            ~ " || identifier_set_members.identifier"
        ) }} as identifier_hash64
    from summarise_sets
    inner join identifier_set_members
        on summarise_sets.identifier_set_id = identifier_set_members.identifier_set_id
    group by
        identifier_set_members.identifier_type, identifier_set_members.identifier

),

add_to_known as (

    select
        coalesce(
            known.identifier_seq,
            (select coalesce(max(numbered.identifier_seq), -1) from known as numbered)
            + row_number() over (
                partition by known.identifier_seq is null
                order by
                    sum_sightings.first_seen_at asc,
                    sum_sightings.identifier_type asc,
                    sum_sightings.identifier asc
            )
        ) as identifier_seq,
        sum_sightings.identifier_type,
        sum_sightings.identifier,
        identifier_types.rank as type_rank,
        identifier_types.strength,
        least(sum_sightings.first_seen_at, known.first_seen_at) as first_seen_at,
        greatest(sum_sightings.last_seen_at, known.last_seen_at) as last_seen_at,
        cast(
            sum_sightings.message_count + coalesce(known.message_count, 0) as bigint
        ) as message_count,
        sum_sightings.identifier_hash64,
        case
            when sum_sightings.first_seen_at >= known.first_seen_at
                then known.moved_seq
            else sum_sightings.batch_seq
        end as moved_seq,
        sum_sightings.batch_seq
    from sum_sightings
    inner join identifier_types
        on sum_sightings.identifier_type = identifier_types.identifier_type
    left join known
        on
            sum_sightings.identifier_hash64 = known.identifier_hash64
            -- said by what differs, as equal texts would be looked for among all
            and not (
                sum_sightings.identifier_type <> known.identifier_type
                or sum_sightings.identifier <> known.identifier
            )

)

select * from add_to_known
