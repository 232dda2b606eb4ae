-- One row per possible send for which it is, or may be, night where the person is.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

local_zones as (

    select * from {{ ref('local_zones') }}

),

read_local_clocks as (

    select
        possible_sends.send_id,
        local_zones.time_zone,
        extract(hour from {{ local_time(
            'possible_sends.as_of', 'local_zones.time_zone'
        ) }}) as local_hour,
        channel_rules.quiet_from_hour,
        channel_rules.quiet_until_hour
    from possible_sends
    inner join channel_rules on possible_sends.channel = channel_rules.channel
    inner join local_zones on possible_sends.profile_id = local_zones.profile_id

),

find_nights as (

    select
        send_id,
        {{ stated_rule('quiet_hours') }} as rule,
        min(time_zone) || ', hour ' || cast(min_by(local_hour, time_zone) as varchar)
        || ', silent from ' || cast(min(quiet_from_hour) as varchar)
        || ' until ' || cast(min(quiet_until_hour) as varchar) as reason_detail
    from read_local_clocks
    where {{ is_silent('local_hour') }}
    group by send_id

)

select * from find_nights
