-- One row per message that names somebody: the profile it belongs to.
with

message_identifier_sets as (

    select * from {{ ref('message_identifier_sets') }}

),

identifier_set_members as (

    select * from {{ ref('identifier_set_members') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

choose_strongest as (

    select
        identifier_set_members.identifier_set_id,
        identity_map.profile_id
    from identifier_set_members
    inner join identifiers
        on
            identifier_set_members.identifier_type = identifiers.identifier_type
            and identifier_set_members.identifier = identifiers.identifier
    inner join identity_map
        on identifiers.identifier_seq = identity_map.identifier_seq
    qualify row_number() over (
        partition by identifier_set_members.identifier_set_id
        order by
            identifiers.is_hub asc,
            identifiers.type_rank asc,
            identifiers.first_seen_at asc,
            identifiers.identifier asc
    ) = 1

),

assign_profiles as (

    select
        message_identifier_sets.message_id,
        choose_strongest.profile_id,
        message_identifier_sets.occurred_at
    from message_identifier_sets
    inner join choose_strongest
        on
            message_identifier_sets.identifier_set_id
            = choose_strongest.identifier_set_id

)

select * from assign_profiles
