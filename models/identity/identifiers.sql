-- One row per identifier ever seen, numbered from the oldest, hubs marked.
with

identifier_set_members as (

    select * from {{ ref('identifier_set_members') }}

),

identifier_types as (

    select * from {{ ref('identifier_types') }}

),

summarise_identifiers as (

    select
        identifier_type,
        identifier,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        sum(message_count) as message_count
    from identifier_set_members
    group by identifier_type, identifier

),

count_user_ids as (

    select
        members.identifier_type,
        members.identifier,
        count(distinct users.identifier) as user_id_count
    from identifier_set_members as members
    inner join identifier_set_members as users
        on
            members.identifier_set_id = users.identifier_set_id
            and users.identifier_type = 'user_id'
    group by members.identifier_type, members.identifier

),

mark_hubs as (

    select
        summarise_identifiers.identifier_type,
        summarise_identifiers.identifier,
        summarise_identifiers.first_seen_at,
        summarise_identifiers.last_seen_at,
        summarise_identifiers.message_count,
        coalesce(count_user_ids.user_id_count, 0) as user_id_count,
        identifier_types.rank as type_rank,
        identifier_types.strength,
        coalesce(
            count_user_ids.user_id_count > identifier_types.max_user_ids, false
        ) as is_hub
    from summarise_identifiers
    left join identifier_types
        on summarise_identifiers.identifier_type = identifier_types.identifier_type
    left join count_user_ids
        on
            summarise_identifiers.identifier_type = count_user_ids.identifier_type
            and summarise_identifiers.identifier = count_user_ids.identifier

),

number_identifiers as (

    select
        row_number() over (
            order by first_seen_at asc, identifier_type asc, identifier asc
        ) - 1 as identifier_seq,
        identifier_type,
        identifier,
        type_rank,
        strength,
        first_seen_at,
        last_seen_at,
        cast(message_count as bigint) as message_count,
        user_id_count,
        is_hub,
        case when is_hub then 'several_user_ids' end as hub_reason
    from mark_hubs

)

select * from number_identifiers
