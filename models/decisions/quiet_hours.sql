-- One row per due step and channel for which it is night where the person is.
with

due_steps as (

    select * from {{ ref('due_steps') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

time_zones as (

    select * from {{ ref('time_zones') }}

),

read_local_clocks as (

    select
        due_steps.candidate_id,
        coalesce(time_zones.time_zone, 'UTC') as time_zone,
        extract(hour from {{ local_time(
            'due_steps.as_of', "coalesce(time_zones.time_zone, 'UTC')"
        ) }}) as local_hour,
        channel_rules.quiet_from_hour,
        channel_rules.quiet_until_hour
    from due_steps
    inner join channel_rules on due_steps.channel = channel_rules.channel
    inner join profiles on due_steps.profile_id = profiles.profile_id
    -- a zone nobody knows is no reason to wake somebody, nor to fail
    left join time_zones on profiles.timezone = time_zones.time_zone

),

keep_nights as (

    select
        candidate_id,
        time_zone,
        local_hour
    from read_local_clocks
    where {{ is_silent('local_hour') }}

)

select * from keep_nights
