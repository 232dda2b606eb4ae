-- One row per person: what predicts through which channel it may answer. What messages
-- set off themselves is left out: it is the outcome, not the cause.
{%- set shares = {
    'app': 'sessions.is_app',
    'store': 'sessions.is_store',
    'phone': "sessions.device_type in ('ios', 'android', 'mobile', 'phone')",
    'weekend': weekday_group('local_at') ~ " = 'weekend'",
    'morning': 'extract(hour from local_at) < 12',
    'evening': 'extract(hour from local_at) >= 18',
} %}
with

profiles as (

    select * from {{ ref('profiles') }}
    where not is_hub

),

-- a session that names a campaign is an answer
unprompted_sessions as (

    select * from {{ ref('sessions') }}
    where campaign_id is null and campaign_name is null

),

run as (

    select * from {{ ref('stg_run') }}

),

read_local_clocks as (

    select
        sessions.*,
        {{ local_time(
            'sessions.started_at', 'coalesce(profiles.timezone, run.time_zone)'
        ) }} as local_at
    from unprompted_sessions as sessions
    cross join run
    inner join profiles on sessions.profile_id = profiles.profile_id

),

summarise_sessions as (

    select
        profile_id,
        max(started_at) as last_session_at,
        count(*) as session_count,
        {%- for name, condition in shares.items() %}
        avg(case when {{ condition }} then 1.0 else 0.0 end)
            as {{ name }}_session_rate{{ ',' if not loop.last }}
        {%- endfor %}
    from read_local_clocks as sessions
    group by profile_id

),

describe_persons as (

    select
        profiles.profile_id,
        profiles.preferred_channel,
        {{ days_between('profiles.first_seen_at', 'run.as_of') }}
            as days_since_first_seen,
        {{ days_between('summarise_sessions.last_session_at', 'run.as_of') }}
            as days_since_last_session,
        {{ days_between('profiles.last_order_at', 'run.as_of') }}
            as days_since_last_order,
        profiles.order_count,
        coalesce(summarise_sessions.session_count, 0) as session_count,
        {%- for name in shares %}
        summarise_sessions.{{ name }}_session_rate{{ ',' if not loop.last }}
        {%- endfor %}
    from profiles
    cross join run
    left join summarise_sessions
        on profiles.profile_id = summarise_sessions.profile_id

)

select * from describe_persons
