-- Without rules that allow more, no profile holds more of a type than its limit and a
-- hub is alone in its profile; and every link is either inside one profile or listed as
-- a conflict.
{{ config(meta={'dagster': {'ref': {'name': 'identity_map'}}}) }}

with

identity_map as (

    select * from {{ ref('identity_map') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

identifier_types as (

    select * from {{ ref('identifier_types') }}

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
        identity_map.identifier_type,
        count(*) as identifier_count,
        bool_or(identifiers.is_hub) as has_hub,
        bool_or(
            identity_map.identifier_seq in (
                select identity_components.identifier_seq
                from identity_components
                where identity_components.rule_key is not null
            )
        ) as is_ruled
    from identity_map
    inner join identifiers
        on identity_map.identifier_seq = identifiers.identifier_seq
    group by identity_map.profile_id, identity_map.identifier_type

),

sum_members as (

    select
        count_members.profile_id,
        max(
            case
                when count_members.identifier_count > identifier_types.profile_limit
                    then identifier_types.identifier_type
            end
        ) as crowded_type,
        bool_or(count_members.has_hub) and sum(count_members.identifier_count) > 1
            as has_hub_in_company
    from count_members
    inner join identifier_types
        on count_members.identifier_type = identifier_types.identifier_type
    group by count_members.profile_id
    having not bool_or(count_members.is_ruled)

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
    'too many identifiers of type ' || crowded_type as problem,
    profile_id
from sum_members
where crowded_type is not null
union all
select
    'hub that is not alone' as problem,
    profile_id
from sum_members
where has_hub_in_company
union all
select
    'links neither kept nor refused' as problem,
    cast(null as varchar) as profile_id
from count_links
where edge_count <> kept_count + refused_count
