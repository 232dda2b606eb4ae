-- One row per active enrollment, step still ahead and channel it may use: whether that
-- channel was tried before and whether a rule closes it for good.
with

enrollments as (

    select * from {{ ref('enrollments') }}
    where state = 'active'

),

progress as (

    select * from {{ ref('enrollment_progress') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

steps as (

    select * from {{ ref('stg_journey_steps') }}

),

sends as (

    select * from {{ ref('stg_sends') }}

),

closed_channels as (

    select distinct
        channel_blocks.profile_id,
        channel_blocks.channel,
        decision_rules.for_transactional
    from {{ ref('channel_blocks') }} as channel_blocks
    inner join {{ ref('decision_rules') }} as decision_rules
        on channel_blocks.rule = decision_rules.rule

),

list_steps_ahead as (

    select
        progress.enrollment_id,
        progress.profile_id,
        progress.assignment,
        progress.evidence_message_id,
        progress.entered_at,
        progress.waits_since,
        progress.next_session_at,
        journeys.message_class,
        journeys.priority,
        steps.*
    from progress
    inner join enrollments on progress.enrollment_id = enrollments.enrollment_id
    inner join journeys on progress.journey = journeys.journey
    inner join steps
        on
            progress.journey = steps.journey
            and progress.last_step_position < steps.step_position
    -- who answered is not asked again, only told the next thing
    where not (steps.is_escalation and progress.is_engaged)

),

try_channels as (

    select
        list_steps_ahead.*,
        exists(
            select 1 from sends
            where
                sends.enrollment_id = list_steps_ahead.enrollment_id
                and sends.step = list_steps_ahead.step
                and sends.channel = list_steps_ahead.channel
        ) as is_tried,
        exists(
            select 1 from closed_channels
            where
                closed_channels.profile_id = list_steps_ahead.profile_id
                and closed_channels.channel = list_steps_ahead.channel
                and (
                    list_steps_ahead.message_class = 'marketing'
                    or closed_channels.for_transactional
                )
        ) as is_closed
    from list_steps_ahead

)

select * from try_channels
