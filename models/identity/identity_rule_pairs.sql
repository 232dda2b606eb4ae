-- One row per pair of known identifiers that a rule denies or allows.
with

identity_rules as (

    select * from {{ ref('stg_identity_rules') }}

),

identifier_activity as (

    select * from {{ ref('identifier_activity') }}

),

find_identifiers as (

    select distinct
        identity_rules.rule,
        ends.identifier_seq,
        linked_ends.identifier_seq as linked_identifier_seq
    from identity_rules
    inner join identifier_activity as ends
        on
            identity_rules.identifier_type = ends.identifier_type
            and identity_rules.identifier = ends.identifier
    inner join identifier_activity as linked_ends
        on
            identity_rules.linked_identifier_type = linked_ends.identifier_type
            and identity_rules.linked_identifier = linked_ends.identifier
    where
        identity_rules.rule in ('deny', 'allow')
        and ends.identifier_seq <> linked_ends.identifier_seq

)

select
    rule,
    least(identifier_seq, linked_identifier_seq) as identifier_seq,
    greatest(identifier_seq, linked_identifier_seq) as linked_identifier_seq
from find_identifiers
