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

choose_strongest as (

    select
        identifier_set_members.identifier_set_id,
        identity_map.profile_id
    from identifier_set_members
    inner join identity_map
        on
            identifier_set_members.identifier_type = identity_map.identifier_type
            and identifier_set_members.identifier = identity_map.identifier
    qualify row_number() over (
        partition by identifier_set_members.identifier_set_id
        order by
            identity_map.is_hub asc,
            identity_map.type_rank asc,
            identity_map.identifier_seq asc
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
