-- One row per link between two profiles: which end is to blame, and whether by a rule.
with

identity_edges as (

    select * from {{ ref('identity_edges') }}

),

identity_components as (

    select * from {{ ref('identity_components') }}

),

identity_rule_pairs as (

    select * from {{ ref('identity_rule_pairs') }}

),

find_contested as (

    select identifier_seq
    from identity_components
    where hub_reason is not null or component_seq <> cluster_seq

),

find_denied as (

    select distinct
        least(components.component_seq, linked_components.component_seq)
            as component_seq,
        greatest(components.component_seq, linked_components.component_seq)
            as linked_component_seq
    from identity_rule_pairs
    inner join identity_components as components
        on identity_rule_pairs.identifier_seq = components.identifier_seq
    inner join identity_components as linked_components
        on
            identity_rule_pairs.linked_identifier_seq
            = linked_components.identifier_seq
    where identity_rule_pairs.rule = 'deny'

),

find_refused as (

    select
        identity_edges.*,
        components.component_seq,
        linked_components.component_seq as linked_component_seq,
        linked_components.hub_reason is not null or components.hub_reason is null
            as is_linked_end_culprit
    from identity_edges
    inner join identity_components as components
        on identity_edges.identifier_seq = components.identifier_seq
    inner join identity_components as linked_components
        on identity_edges.linked_identifier_seq = linked_components.identifier_seq
    where
        components.component_seq <> linked_components.component_seq
        and (
            identity_edges.identifier_seq in (
                select find_contested.identifier_seq from find_contested
            )
            or identity_edges.linked_identifier_seq in (
                select find_contested.identifier_seq from find_contested
            )
        )

),

blame_ends as (

    select
        find_refused.identifier_seq,
        find_refused.linked_identifier_seq,
        find_refused.component_seq,
        find_refused.linked_component_seq,
        case
            when is_linked_end_culprit then find_refused.linked_identifier_seq
            else find_refused.identifier_seq
        end as refused_identifier_seq,
        case
            when is_linked_end_culprit then find_refused.identifier_seq
            else find_refused.linked_identifier_seq
        end as other_seq,
        find_refused.evidence_count,
        find_refused.evidence_message_id,
        find_refused.first_seen_at,
        find_refused.last_seen_at,
        find_denied.component_seq is not null as is_denied
    from find_refused
    left join find_denied
        on
            least(find_refused.component_seq, find_refused.linked_component_seq)
            = find_denied.component_seq
            and greatest(
                find_refused.component_seq, find_refused.linked_component_seq
            ) = find_denied.linked_component_seq

)

select * from blame_ends
