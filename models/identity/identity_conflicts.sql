-- One row per link that was refused, with the reason.
with

identity_edges as (

    select * from {{ ref('identity_edges') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

find_refused as (

    select
        identity_edges.*,
        linked_ends.is_hub or not ends.is_hub as is_linked_end_culprit
    from identity_edges
    inner join identity_map as ends
        on identity_edges.identifier_seq = ends.identifier_seq
    inner join identity_map as linked_ends
        on identity_edges.linked_identifier_seq = linked_ends.identifier_seq
    where ends.profile_id <> linked_ends.profile_id

),

turn_to_culprit as (

    select
        case
            when is_linked_end_culprit then linked_identifier_type
            else identifier_type
        end as identifier_type,
        case
            when is_linked_end_culprit then linked_identifier
            else identifier
        end as identifier,
        case
            when is_linked_end_culprit then identifier_type
            else linked_identifier_type
        end as refused_identifier_type,
        case
            when is_linked_end_culprit then identifier
            else linked_identifier
        end as refused_identifier,
        case when is_hub_link then 'several_user_ids' else 'second_user_id' end
            as reason,
        evidence_count,
        evidence_message_id,
        first_seen_at,
        last_seen_at
    from find_refused

)

select * from turn_to_culprit
