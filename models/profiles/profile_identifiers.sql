-- One row per profile: the identifiers by which others address it.
with

identity_map as (

    select * from {{ ref('identity_map') }}

),

choose_identifiers as (

    select
        profile_id,
        min_by(identifier_type, (type_rank, identifier_seq)) as strongest_type,
        min_by(identifier, (type_rank, identifier_seq)) as strongest,
        bool_or(is_hub) as is_hub,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        count(case when identifier_type = 'device_id' then 1 end) as device_id_count,
        count(case when identifier_type = 'anonymous_id' then 1 end)
            as anonymous_id_count,
        {%- for type in ['user_id', 'anonymous_id', 'email', 'phone'] %}
        max_by(identifier, (last_seen_at, identifier_seq))
            filter (where identifier_type = '{{ type }}') as {{ type }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from identity_map
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
