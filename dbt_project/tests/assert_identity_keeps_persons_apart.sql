-- Without rules that allow more, no profile holds two user ids and a hub is alone in
-- its profile; and every link is either inside one profile or listed as a conflict.
{{ config(meta={'dagster': {'ref': {'name': 'identity_map'}}}) }}

with

identity_map as (

    select * from {{ ref('identity_map') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

identity_components as (

    select * from {{ ref('identity_components') }}

),

identity_edges as (

    select * from {{ ref('identity_edges') }}

),

identity_conflicts as (

    select * from {{ ref('identity_conflicts') }}

),

count_members as (

    select
        identity_map.profile_id,
        count(*) as member_count,
        count(case when identifiers.identifier_type = 'user_id' then 1 end)
            as user_id_count,
        bool_or(identifiers.is_hub) as has_hub
    from identity_map
    inner join identifiers
        on identity_map.identifier_seq = identifiers.identifier_seq
    group by identity_map.profile_id
    having not bool_or(
        identity_map.identifier_seq in (
            select identity_components.identifier_seq
            from identity_components
            where identity_components.is_ruled
        )
    )

),

count_links as (

    select
        (select count(*) from identity_edges) as edge_count,
        (select count(*) from identity_conflicts) as refused_count,
        (
            select count(*)
            from identity_edges
            inner join identity_map as ends
                on identity_edges.identifier_seq = ends.identifier_seq
            inner join identity_map as linked_ends
                on identity_edges.linked_identifier_seq = linked_ends.identifier_seq
            where ends.profile_id = linked_ends.profile_id
        ) as kept_count

)

select
    'two user ids in one profile' as problem,
    profile_id
from count_members
where user_id_count > 1
union all
select
    'hub that is not alone' as problem,
    profile_id
from count_members
where has_hub and member_count > 1
union all
select
    'links neither kept nor refused' as problem,
    cast(null as varchar) as profile_id
from count_links
where edge_count <> kept_count + refused_count
