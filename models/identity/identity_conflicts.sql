-- One row per link that was refused, with the reason.
with

refused_links as (

    select * from {{ ref('refused_links') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

profile_identifier_counts as (

    select * from {{ ref('profile_identifier_counts') }}

),

identifier_types as (

    select * from {{ ref('identifier_types') }}

),

find_overflows as (

    select
        refused_links.identifier_seq,
        refused_links.linked_identifier_seq,
        min_by(identifier_types.identifier_type, identifier_types.rank)
            as identifier_type
    from refused_links
    inner join profile_identifier_counts as profiles
        on refused_links.component_seq = profiles.component_seq
    inner join profile_identifier_counts as linked_profiles
        on
            refused_links.linked_component_seq = linked_profiles.component_seq
            and profiles.identifier_type = linked_profiles.identifier_type
    inner join identifier_types
        on profiles.identifier_type = identifier_types.identifier_type
    where
        profiles.member_count + linked_profiles.member_count
        > identifier_types.profile_limit
    group by
        refused_links.identifier_seq, refused_links.linked_identifier_seq

),

name_ends as (

    select
        culprits.identifier_type,
        culprits.identifier,
        others.identifier_type as refused_identifier_type,
        others.identifier as refused_identifier,
        case
            when culprits.is_hub then 'hub'
            when refused_links.is_denied then 'denied'
            else 'limit'
        end as reason,
        case
            when culprits.is_hub then culprits.hub_reason
            when not refused_links.is_denied then find_overflows.identifier_type
        end as reason_detail,
        refused_links.evidence_count,
        refused_links.evidence_message_id,
        refused_links.first_seen_at,
        refused_links.last_seen_at
    from refused_links
    inner join identifiers as culprits
        on refused_links.refused_identifier_seq = culprits.identifier_seq
    inner join identifiers as others
        on refused_links.other_seq = others.identifier_seq
    left join find_overflows
        on
            refused_links.identifier_seq = find_overflows.identifier_seq
            and refused_links.linked_identifier_seq
            = find_overflows.linked_identifier_seq

)

select * from name_ends
