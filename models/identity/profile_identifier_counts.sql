-- One row per profile and type of identifier, where a limit or a denial parts profiles.
with

identity_components as (

    select * from {{ ref('identity_components') }}

),

identifier_activity as (

    select * from {{ ref('identifier_activity') }}

),

find_parted_clusters as (

    select distinct cluster_seq
    from identity_components
    where component_seq <> cluster_seq

),

count_members as (

    select
        identity_components.component_seq,
        identifier_activity.identifier_type,
        count(*) as member_count
    from identity_components
    inner join find_parted_clusters
        on identity_components.cluster_seq = find_parted_clusters.cluster_seq
    inner join identifier_activity
        on identity_components.identifier_seq = identifier_activity.identifier_seq
    group by
        identity_components.component_seq, identifier_activity.identifier_type

)

select * from count_members
