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

step_places as (

    select * from {{ ref('step_places') }}

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

journey_names as (

    select * from {{ ref('journey_names') }}

),

place_sends as (

    select
        sends.enrollment_id,
        sends.send_id,
        sends.state,
        sends.as_of as sent_at,
        coalesce(step_places.current_step, sends.step) as step,
        -- a step that a warehouse put back knows nothing of has the place of its turn
        coalesce(
            step_places.step_position,
            dense_rank() over (
                partition by sends.enrollment_id order by sends.as_of asc
            )
        ) as step_position,
        coalesce(step_places.is_escalation, false) as is_escalation
    from sends
    left join step_places
        on
            sends.journey = step_places.journey
            and sends.step = step_places.step
            and {{ named_then('step_places', 'sends.as_of') }}

),

count_sends as (

    select
        enrollment_id,
        count(*) as send_count,
        cast(sum(case when is_escalation then 1 else 0 end) as bigint)
            as escalation_count
    from place_sends
    group by enrollment_id

),

last_sends as (

    select * from place_sends
    qualify row_number() over (
        partition by enrollment_id
        order by step_position desc, sent_at desc, send_id asc
    ) = 1

),

place_entries as (

    select
        entries.enrollment_id,
        coalesce(journey_names.current_journey, entries.journey) as journey,
        entries.journey_version,
        entries.definition_hash,
        entries.entry_profile_id,
        entries.identifier_type,
        entries.identifier,
        entries.entered_at,
        entries.entry_reason,
        entries.evidence_message_id,
        entries.evidence_at,
        entries.assignment,
        entries.product_id,
        entries.cart_value_amount,
        identity_map.profile_id,
        last_sends.send_id as last_send_id,
        last_sends.step as last_step,
        last_sends.sent_at as last_sent_at,
        coalesce(last_sends.step_position, 0) as last_step_position,
        -- what waits to go out, or is on its way, may yet come back
        coalesce(last_sends.state in ('sent', 'unknown'), false) as is_last_settled,
        coalesce(last_sends.sent_at, entries.entered_at) as waits_since,
        coalesce(count_sends.send_count, 0) as send_count,
        coalesce(count_sends.escalation_count, 0) as escalation_count
    from entries
    cross join run
    inner join identity_map
        on
            entries.identifier_type = identity_map.identifier_type
            and entries.identifier = identity_map.identifier
    left join journey_names
        on
            entries.journey = journey_names.journey
            and {{ named_then('journey_names', 'entries.entered_at') }}
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
