-- One row per active enrollment, step that is still ahead or waits to go out and
-- channel it may use: whether that channel was tried before and whether a rule closes
-- it for good.
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

    select
        sends.enrollment_id,
        sends.channel,
        sends.state,
        step_places.current_step as step
    from {{ ref('stg_sends') }} as sends
    inner join {{ ref('step_places') }} as step_places
        on
            sends.journey = step_places.journey
            and sends.step = step_places.step
            and {{ named_then('step_places', 'sends.as_of') }}

),

rules as (

    select * from {{ ref('rules') }}

),

reach_blocks as (

    select * from {{ ref('reach_blocks') }}

),

consent_blocks as (

    select * from {{ ref('consent_blocks') }}

),

address_blocks as (

    select * from {{ ref('address_blocks') }}

),

step_conditions as (

    select * from {{ ref('step_conditions') }}

),

condition_events as (

    select * from {{ ref('condition_events') }}
    where place = 'wait'

),

list_steps as (

    select
        progress.enrollment_id,
        progress.profile_id,
        progress.assignment,
        progress.evidence_message_id,
        progress.entered_at,
        progress.waits_since,
        case
            when steps.wait_for = 'session' then progress.next_session_at
            else (
                select min(condition_events.occurred_at) from condition_events
                where
                    condition_events.journey = steps.journey
                    and condition_events.step = steps.step
                    and condition_events.profile_id = progress.profile_id
                    and condition_events.occurred_at > progress.waits_since
            )
        end as awaited_at,
        journeys.message_class,
        journeys.purpose,
        journeys.priority,
        progress.last_step_position < steps.step_position as is_ahead,
        steps.*
    from progress
    inner join enrollments on progress.enrollment_id = enrollments.enrollment_id
    inner join journeys on progress.journey = journeys.journey
    inner join steps on progress.journey = steps.journey
    left join step_conditions
        on
            progress.enrollment_id = step_conditions.enrollment_id
            and steps.step = step_conditions.step
    where
        (
            progress.last_step_position < steps.step_position
            -- who answered is not asked again, only told the next thing
            and not (steps.is_escalation and progress.is_engaged)
            and coalesce(step_conditions.is_met, true)
        )
        or exists (
            select 1 from sends
            where
                sends.enrollment_id = progress.enrollment_id
                and sends.step = steps.step
                and sends.state = 'pending'
        )

),

find_closed as (

    select
        list_steps.enrollment_id,
        list_steps.step,
        list_steps.channel,
        list_steps.message_class,
        reach_blocks.rule
    from list_steps
    inner join reach_blocks
        on
            list_steps.profile_id = reach_blocks.profile_id
            and list_steps.channel = reach_blocks.channel

    union all

    select
        list_steps.enrollment_id,
        list_steps.step,
        list_steps.channel,
        list_steps.message_class,
        consent_blocks.rule
    from list_steps
    inner join consent_blocks
        on
            list_steps.profile_id = consent_blocks.profile_id
            and list_steps.channel = consent_blocks.channel
            and list_steps.message_class = consent_blocks.message_class
            and {{ is_of_purpose('list_steps.purpose') }}

    union all

    select
        list_steps.enrollment_id,
        list_steps.step,
        list_steps.channel,
        list_steps.message_class,
        address_blocks.rule
    from list_steps
    inner join address_blocks
        on
            list_steps.enrollment_id = address_blocks.enrollment_id
            and list_steps.step = address_blocks.step
            and list_steps.channel = address_blocks.channel

),

closed_steps as (

    select distinct
        find_closed.enrollment_id,
        find_closed.step,
        find_closed.channel
    from find_closed
    inner join rules on find_closed.rule = rules.rule
    where {{ rule_applies('find_closed.message_class') }}

),

try_channels as (

    select
        list_steps.*,
        exists(
            select 1 from sends
            where
                sends.enrollment_id = list_steps.enrollment_id
                and sends.step = list_steps.step
                and sends.channel = list_steps.channel
        ) as is_tried,
        closed_steps.channel is not null as is_closed
    from list_steps
    left join closed_steps
        on
            list_steps.enrollment_id = closed_steps.enrollment_id
            and list_steps.step = closed_steps.step
            and list_steps.channel = closed_steps.channel

)

select * from try_channels
