-- One row per identifier ever seen, with its links and whether it is a hub.
{{ config(materialized='view') }}

with

identifier_sightings as (

    select * from {{ ref('identifier_sightings') }}

),

identity_components as (

    select * from {{ ref('identity_components') }}

),

describe_identifiers as (

    select
        identifier_sightings.identifier_seq,
        identifier_sightings.identifier_type,
        identifier_sightings.identifier,
        identifier_sightings.type_rank,
        identifier_sightings.strength,
        identifier_sightings.first_seen_at,
        identifier_sightings.last_seen_at,
        identifier_sightings.message_count,
        identity_components.link_count,
        identity_components.user_id_count,
        identity_components.hub_reason is not null as is_hub,
        case
            when
                identifier_sightings.identifier_type = 'user_id'
                and identity_components.hub_reason = 'several_user_ids'
                then 'several_persons'
            else identity_components.hub_reason
        end as hub_reason
    from identifier_sightings
    inner join identity_components
        on identifier_sightings.identifier_seq = identity_components.identifier_seq

)

select * from describe_identifiers
