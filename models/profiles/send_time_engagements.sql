-- One row per profile, weekday group and two-hour slot on its own clock in which it
-- engaged: on how many days, each by its strongest sign.
with

sessions as (

    select * from {{ ref('sessions') }}
    where not is_store

),

message_events as (

    select * from {{ ref('stg_message_events') }}
    where interaction in ('opened', 'clicked') and not is_machine

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

profiles as (

    select * from {{ ref('profiles') }}
    where not is_hub

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('reach_rules') }}

),

collect_engagements as (

    select
        sessions.profile_id,
        sessions.started_at as engaged_at,
        rules.visit_weight as weight
    from sessions
    cross join rules

    union all

    select
        profile_events.profile_id,
        profile_events.occurred_at as engaged_at,
        case
            when message_events.interaction = 'clicked' then rules.click_weight
            else rules.open_weight
        end as weight
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id
    cross join rules

),

read_local_clocks as (

    select
        collect_engagements.profile_id,
        {{ local_time(
            'collect_engagements.engaged_at',
            'coalesce(profiles.timezone, run.time_zone)'
        ) }} as local_at,
        collect_engagements.weight
    from collect_engagements
    cross join run
    inner join profiles on collect_engagements.profile_id = profiles.profile_id

),

name_slots as (

    select
        profile_id,
        cast(local_at as date) as local_on,
        {{ weekday_group('local_at') }} as weekday_group,
        {{ day_slot('local_at') }} as slot,
        max(weight) as weight
    from read_local_clocks
    group by 1, 2, 3, 4

),

sum_days as (

    select
        profile_id,
        weekday_group,
        slot,
        cast(sum(weight) as double) as engagement_weight
    from name_slots
    group by profile_id, weekday_group, slot

)

select * from sum_days
