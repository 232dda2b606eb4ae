-- One row per identifier: the profile it belongs to.
with

identifiers as (

    select * from {{ ref('identifiers') }}

),

identity_components as (

    select * from {{ ref('identity_components') }}

),

identity_edges as (

    select * from {{ ref('identity_edges') }}

),

find_oldest as (

    select
        identifiers.*,
        coalesce(
            identity_components.component_seq, identifiers.identifier_seq
        ) as oldest_seq
    from identifiers
    left join identity_components
        on identifiers.identifier_seq = identity_components.identifier_seq

),

list_kept_links as (

    select
        identity_edges.identifier_seq,
        identity_edges.linked_identifier_seq,
        identity_edges.first_seen_at
    from identity_edges
    inner join identity_components as components
        on identity_edges.identifier_seq = components.identifier_seq
    inner join identity_components as linked_components
        on identity_edges.linked_identifier_seq = linked_components.identifier_seq
    where
        not identity_edges.is_hub_link
        and components.component_seq = linked_components.component_seq

),

find_first_links as (

    select
        identifier_seq,
        min(first_seen_at) as linked_at
    from (
        select
            identifier_seq,
            first_seen_at
        from list_kept_links
        union all
        select
            linked_identifier_seq as identifier_seq,
            first_seen_at
        from list_kept_links
    ) as ends
    group by identifier_seq

),

name_profiles as (

    select
        find_oldest.identifier_seq,
        find_oldest.identifier_type,
        find_oldest.identifier,
        find_oldest.type_rank,
        {{ uuid_of("oldest.identifier_type || '␟' || oldest.identifier") }}
            as profile_id,
        coalesce(find_first_links.linked_at, find_oldest.first_seen_at) as linked_at,
        find_oldest.first_seen_at,
        find_oldest.last_seen_at,
        find_oldest.is_hub
    from find_oldest
    inner join identifiers as oldest
        on find_oldest.oldest_seq = oldest.identifier_seq
    left join find_first_links
        on find_oldest.identifier_seq = find_first_links.identifier_seq

)

select * from name_profiles
