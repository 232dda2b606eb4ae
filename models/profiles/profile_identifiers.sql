-- One row per profile: the identifiers by which others address it.
with

identity_map as (

    select * from {{ ref('identity_map') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

describe_members as (

    select
        identity_map.profile_id,
        identifiers.*
    from identity_map
    inner join identifiers
        on identity_map.identifier_seq = identifiers.identifier_seq

),

choose_identifiers as (

    select
        profile_id,
        min_by(identifier_type, (type_rank, first_seen_at, identifier))
            as strongest_type,
        min_by(identifier, (type_rank, first_seen_at, identifier)) as strongest,
        bool_or(is_hub) as is_hub,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        count(case when identifier_type = 'device_id' then 1 end) as device_id_count,
        count(case when identifier_type = 'anonymous_id' then 1 end)
            as anonymous_id_count,
        {%- for type in ['user_id', 'anonymous_id', 'email', 'phone'] %}
        max_by(identifier, (last_seen_at, first_seen_at, identifier))
            filter (where identifier_type = '{{ type }}') as {{ type }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from describe_members
    group by profile_id

),

choose_carried as (

    select
        profile_id,
        is_hub,
        user_id,
        anonymous_id,
        case
            when user_id is not null then 'user_id'
            when anonymous_id is not null then 'anonymous_id'
            else strongest_type
        end as identifier_type,
        coalesce(user_id, anonymous_id, strongest) as identifier,
        email,
        phone,
        greatest(device_id_count, anonymous_id_count) as device_count,
        first_seen_at,
        last_seen_at
    from choose_identifiers

)

select * from choose_carried
