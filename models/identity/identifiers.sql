-- One row per identifier ever seen, with its links and whether it is a hub.
{{ config(materialized='view') }}

with

identifier_activity as (

    select * from {{ ref('identifier_activity') }}

),

identity_components as (

    select * from {{ ref('identity_components') }}

),

describe_identifiers as (

    select
        identifier_activity.identifier_seq,
        identifier_activity.identifier_type,
        identifier_activity.identifier,
        identifier_activity.type_rank,
        identifier_activity.strength,
        identifier_activity.first_seen_at,
        identifier_activity.last_seen_at,
        identifier_activity.message_count,
        identity_components.link_count,
        identity_components.user_id_count,
        identity_components.hub_reason is not null as is_hub,
        case
            when
                identifier_activity.identifier_type = 'user_id'
                and identity_components.hub_reason = 'several_user_ids'
                then 'several_persons'
            else identity_components.hub_reason
        end as hub_reason
    from identifier_activity
    inner join identity_components
        on identifier_activity.identifier_seq = identity_components.identifier_seq

)

select * from describe_identifiers
