-- One row per possible send for which an hour at which the person engages more than now
-- is still to come while the step may wait.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}
    where send_time_seconds is not null

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

local_zones as (

    select * from {{ ref('local_zones') }}
    where is_likeliest

),

send_time_scores as (

    select * from {{ source('ml', 'send_time_scores') }}

),

-- no step waits longer than three days
days_ahead as (
    {% for days in range(4) %}
    select {{ days }} as days_ahead
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

read_local_clocks as (

    select
        possible_sends.send_id,
        possible_sends.profile_id,
        channel_rules.quiet_from_hour,
        channel_rules.quiet_until_hour,
        {{ local_time('possible_sends.as_of', 'local_zones.time_zone') }} as local_at,
        {{ local_time(
            add_seconds('possible_sends.due_at', 'possible_sends.send_time_seconds'),
            'local_zones.time_zone'
        ) }} as local_deadline_at
    from possible_sends
    inner join channel_rules on possible_sends.channel = channel_rules.channel
    inner join local_zones on possible_sends.profile_id = local_zones.profile_id

),

list_slots as (

    select
        clocks.*,
        send_time_scores.weekday_group,
        send_time_scores.slot,
        send_time_scores.send_time_propensity,
        {{ add_seconds(
            "cast(cast(clocks.local_at as date) as timestamp)",
            '86400 * days_ahead.days_ahead + 7200 * send_time_scores.slot'
        ) }} as begins_at
    from read_local_clocks as clocks
    inner join send_time_scores on clocks.profile_id = send_time_scores.profile_id
    cross join days_ahead

),

compare_slots as (

    select
        send_id,
        max(
            case when begins_at <= local_at then send_time_propensity else 0 end
        ) as propensity_now,
        max(
            case when begins_at > local_at then send_time_propensity else 0 end
        ) as propensity_ahead
    from list_slots
    where
        {{ weekday_group('begins_at') }} = weekday_group
        and begins_at < local_deadline_at
        and {{ add_seconds('begins_at', 7200) }} > local_at
        -- the first hour of a slot must not be one of silence
        and not coalesce({{ is_silent('2 * slot') }}, false)
    group by send_id

),

keep_better as (

    select
        send_id,
        {{ stated_rule('better_send_time') }} as rule,
        propensity_now,
        propensity_ahead
    from compare_slots
    where propensity_ahead > propensity_now

)

select * from keep_better
