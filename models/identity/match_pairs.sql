-- One row per accepted match: the numbers of both identifiers, the stronger one first.
with

match_candidates as (

    select * from {{ ref('match_candidates') }}

),

identifier_activity as (

    select * from {{ ref('identifier_activity') }}

),

number_ends as (

    select
        ends.identifier_seq,
        linked_ends.identifier_seq as linked_identifier_seq,
        match_candidates.match_weight,
        (ends.type_rank, ends.identifier)
        <= (linked_ends.type_rank, linked_ends.identifier) as is_in_order,
        greatest(ends.first_seen_at, linked_ends.first_seen_at) as first_seen_at
    from match_candidates
    inner join identifier_activity as ends
        on
            match_candidates.identifier_type = ends.identifier_type
            and match_candidates.identifier = ends.identifier
    inner join identifier_activity as linked_ends
        on
            match_candidates.linked_identifier_type = linked_ends.identifier_type
            and match_candidates.linked_identifier = linked_ends.identifier
    where match_candidates.is_accepted

),

put_in_order as (

    select
        case when is_in_order then identifier_seq else linked_identifier_seq end
            as identifier_seq,
        case when is_in_order then linked_identifier_seq else identifier_seq end
            as linked_identifier_seq,
        match_weight,
        first_seen_at
    from number_ends

)

select * from put_in_order
