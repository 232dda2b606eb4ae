-- One row per send that waits to be delivered and rule that stands against it now: the
-- rules that judged it as a candidate judge it again.
with

run as (

    select * from {{ ref('stg_run') }}

),

pending_sends as (

    select
        sends.send_id,
        sends.journey,
        sends.channel,
        send_list.message_class,
        enrollments.profile_id
    from {{ ref('stg_sends') }} as sends
    inner join {{ ref('send_list') }} as send_list on sends.send_id = send_list.send_id
    -- the person by now, whom merges may have given another id
    inner join {{ ref('enrollments') }} as enrollments
        on sends.enrollment_id = enrollments.enrollment_id
    where sends.state = 'pending'

),

rules as (

    select * from {{ ref('decision_rules') }}

),

set_aside as (

    select distinct journey from {{ ref('stg_journey_problems') }}

),

profile_blocks as (

    select * from {{ ref('profile_blocks') }}
    -- a send that waits counts to the cap itself
    where rule <> 'frequency_cap'

),

channel_blocks as (

    select * from {{ ref('channel_blocks') }}

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
        pending_sends.send_id,
        pending_sends.message_class,
        extract(hour from {{ local_time(
            'run.as_of', "coalesce(time_zones.time_zone, 'UTC')"
        ) }}) as local_hour,
        channel_rules.quiet_from_hour,
        channel_rules.quiet_until_hour
    from pending_sends
    cross join run
    inner join channel_rules on pending_sends.channel = channel_rules.channel
    inner join profiles on pending_sends.profile_id = profiles.profile_id
    left join time_zones on profiles.timezone = time_zones.time_zone

),

collect_hits as (

    select
        pending_sends.send_id,
        pending_sends.message_class,
        profile_blocks.rule
    from pending_sends
    inner join profile_blocks on pending_sends.profile_id = profile_blocks.profile_id

    union all

    select
        pending_sends.send_id,
        pending_sends.message_class,
        channel_blocks.rule
    from pending_sends
    inner join channel_blocks
        on
            pending_sends.profile_id = channel_blocks.profile_id
            and pending_sends.channel = channel_blocks.channel

    union all

    select
        send_id,
        message_class,
        'quiet_hours' as rule
    from read_local_clocks
    where {{ is_silent('local_hour') }}

),

keep_rules_of_class as (

    select
        collect_hits.send_id,
        collect_hits.rule,
        rules.rule_order,
        rules.verdict
    from collect_hits
    inner join rules on collect_hits.rule = rules.rule
    where
        (collect_hits.message_class = 'marketing' and rules.for_marketing)
        or (collect_hits.message_class = 'transactional' and rules.for_transactional)

    union all

    select
        pending_sends.send_id,
        'journey_set_aside' as rule,
        0 as rule_order,
        'held' as verdict
    from pending_sends
    inner join set_aside on pending_sends.journey = set_aside.journey

)

select * from keep_rules_of_class
