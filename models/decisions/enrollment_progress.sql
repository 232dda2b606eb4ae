-- One row per enrollment: how far it has come, read from its sends and what they met.
with

run as (

    select * from {{ ref('stg_run') }}

),

entries as (

    select * from {{ ref('entries') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

steps as (

    select distinct
        journey,
        step,
        step_position,
        is_escalation
    from {{ ref('stg_journey_steps') }}

),

sends as (

    select * from {{ ref('stg_sends') }}
    where state in ('pending', 'inflight', 'sent', 'unknown')

),

clicks as (

    select * from {{ ref('stg_message_events') }}
    where interaction = 'clicked' and not is_machine and send_id is not null

),

sessions as (

    select * from {{ ref('sessions') }}

),

count_sends as (

    select
        sends.enrollment_id,
        count(*) as send_count,
        cast(
            sum(case when steps.is_escalation then 1 else 0 end) as bigint
        ) as escalation_count
    from sends
    inner join steps on sends.journey = steps.journey and sends.step = steps.step
    group by sends.enrollment_id

),

last_sends as (

    select
        sends.enrollment_id,
        sends.send_id,
        sends.step,
        sends.as_of as sent_at,
        steps.step_position
    from sends
    inner join steps on sends.journey = steps.journey and sends.step = steps.step
    qualify row_number() over (
        partition by sends.enrollment_id
        order by steps.step_position desc, sends.as_of desc, sends.send_id asc
    ) = 1

),

place_entries as (

    select
        entries.*,
        identity_map.profile_id,
        last_sends.send_id as last_send_id,
        last_sends.step as last_step,
        last_sends.sent_at as last_sent_at,
        coalesce(last_sends.step_position, 0) as last_step_position,
        coalesce(last_sends.sent_at, entries.entered_at) as waits_since,
        coalesce(count_sends.send_count, 0) as send_count,
        coalesce(count_sends.escalation_count, 0) as escalation_count
    from entries
    cross join run
    inner join identity_map
        on
            entries.identifier_type = identity_map.identifier_type
            and entries.identifier = identity_map.identifier
    left join last_sends on entries.enrollment_id = last_sends.enrollment_id
    left join count_sends on entries.enrollment_id = count_sends.enrollment_id
    where entries.entered_at <= run.as_of

),

follow_sessions as (

    select
        place_entries.enrollment_id,
        min(sessions.started_at) as next_session_at,
        max(
            case when sessions.campaign_name = place_entries.journey then 1 else 0 end
        ) as has_campaign_session
    from place_entries
    inner join sessions
        on
            place_entries.profile_id = sessions.profile_id
            and place_entries.waits_since < sessions.started_at
    group by place_entries.enrollment_id

),

judge_engagement as (

    select
        place_entries.*,
        follow_sessions.next_session_at,
        place_entries.last_send_id is not null and (
            coalesce(follow_sessions.has_campaign_session, 0) = 1
            or exists (
                select 1 from clicks
                where clicks.send_id = place_entries.last_send_id
            )
        ) as is_engaged
    from place_entries
    left join follow_sessions
        on place_entries.enrollment_id = follow_sessions.enrollment_id

)

select * from judge_engagement
