-- One row per identifier: the profile it belongs to.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='identifier_seq',
    on_schema_change='fail',
) }}

with

identifier_activity as (

    select * from {{ ref('identifier_activity') }}

),

identity_components as (

    select * from {{ ref('identity_components') }}

),

identity_edges as (

    select * from {{ ref('identity_edges') }}

),

known as (

    select
        {% if is_incremental() %}
            coalesce(max(batch_seq), 0) as batch_seq,
            coalesce(max(revision_seq), 0) as revision_seq
        from {{ this }}
        {% else %}
            0 as batch_seq,
            0 as revision_seq
        {% endif %}

),

list_new_links as (

    select
        identifier_seq,
        linked_identifier_seq
    from identity_edges
    where batch_seq > (select known.batch_seq from known)

),

find_changed as (

    select identifier_seq
    from identity_components
    where revision_seq > (select known.revision_seq from known)

),

find_touched as (

    select identifier_seq from find_changed
    union
    select identifier_seq from list_new_links
    union
    select linked_identifier_seq as identifier_seq from list_new_links
    union
    select identity_edges.linked_identifier_seq as identifier_seq
    from identity_edges
    inner join find_changed
        on identity_edges.identifier_seq = find_changed.identifier_seq
    union
    select identity_edges.identifier_seq
    from identity_edges
    inner join find_changed
        on identity_edges.linked_identifier_seq = find_changed.identifier_seq

),

list_links as (

    select
        identity_edges.identifier_seq,
        identity_edges.linked_identifier_seq,
        identity_edges.first_seen_at
    from identity_edges
    inner join find_touched
        on identity_edges.identifier_seq = find_touched.identifier_seq
    union all
    select
        identity_edges.linked_identifier_seq as identifier_seq,
        identity_edges.identifier_seq as linked_identifier_seq,
        identity_edges.first_seen_at
    from identity_edges
    inner join find_touched
        on identity_edges.linked_identifier_seq = find_touched.identifier_seq

),

find_first_links as (

    select
        list_links.identifier_seq,
        min(list_links.first_seen_at) as linked_at
    from list_links
    inner join identity_components as components
        on list_links.identifier_seq = components.identifier_seq
    inner join identity_components as linked_components
        on list_links.linked_identifier_seq = linked_components.identifier_seq
    where components.component_seq = linked_components.component_seq
    group by list_links.identifier_seq

),

name_profiles as (

    select
        sightings.identifier_seq,
        sightings.identifier_type,
        sightings.identifier,
        {{ uuid_of("oldest.identifier_type || '␟' || oldest.identifier") }}
            as profile_id,
        coalesce(find_first_links.linked_at, sightings.first_seen_at) as linked_at,
        identity_components.revision_seq,
        (select max(all_sightings.batch_seq) from identifier_activity as all_sightings)
            as batch_seq
    from find_touched
    inner join identifier_activity as sightings
        on find_touched.identifier_seq = sightings.identifier_seq
    inner join identity_components
        on find_touched.identifier_seq = identity_components.identifier_seq
    inner join identifier_activity as oldest
        on identity_components.component_seq = oldest.identifier_seq
    left join find_first_links
        on find_touched.identifier_seq = find_first_links.identifier_seq

)

select * from name_profiles
