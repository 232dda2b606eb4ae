-- One row per profile with a session or an engagement: where, on what device and by
-- which channel it is usually met.
with

sessions as (

    select * from {{ ref('sessions') }}

),

channel_engagements as (

    select * from {{ ref('channel_engagements') }}

),

summarise_sessions as (

    select
        profile_id,
        count(*) as session_count,
        max(ended_at) as last_session_at,
        {%- for place in ['timezone', 'country', 'city'] %}
        max_by({{ place }}, (started_at, session_id))
            filter (where {{ place }} is not null) as {{ place }},
        {%- endfor %}
        max_by(device_class, (started_at, session_id))
            filter (where device_class is not null) as last_device_class,
        {%- for surface in ['app', 'web', 'store'] %}
        cast(
            cast(count(case when is_{{ surface }} then 1 end) as double) / count(*)
            as double
        ) as {{ surface }}_session_share{{ ',' if not loop.last }}
        {%- endfor %}
    from sessions
    group by profile_id

),

count_devices as (

    select
        profile_id,
        device_class,
        count(*) as session_count,
        max(started_at) as last_used_at,
        cast(
            cast(count(*) as double)
            / sum(count(*)) over (partition by profile_id) as double
        ) as session_share
    from sessions
    where device_class is not null
    group by profile_id, device_class

),

choose_devices as (

    select * from count_devices
    qualify row_number() over (
        partition by profile_id
        order by session_count desc, last_used_at desc, device_class asc
    ) = 1

),

choose_channels as (

    select * from channel_engagements
    where engaged_count > 0
    qualify row_number() over (
        partition by profile_id
        order by engaged_count desc, last_engaged_at desc, channel asc
    ) = 1

),

describe_habits as (

    select
        coalesce(summarise_sessions.profile_id, choose_channels.profile_id)
            as profile_id,
        summarise_sessions.last_session_at,
        summarise_sessions.timezone,
        summarise_sessions.country,
        summarise_sessions.city,
        choose_devices.device_class as main_device_class,
        choose_devices.session_share as main_device_share,
        summarise_sessions.last_device_class,
        choose_channels.channel as most_engaged_channel,
        coalesce(summarise_sessions.session_count, 0) as session_count,
        summarise_sessions.app_session_share,
        summarise_sessions.web_session_share,
        summarise_sessions.store_session_share
    from summarise_sessions
    full outer join choose_channels
        on summarise_sessions.profile_id = choose_channels.profile_id
    left join choose_devices
        on summarise_sessions.profile_id = choose_devices.profile_id

)

select * from describe_habits
