-- One row per message that may go out in this run, before any rule: a due step on one
-- of its channels, or a send that was decided before and waits to be delivered.
with

run as (

    select * from {{ ref('stg_run') }}

),

due_steps as (

    select * from {{ ref('due_steps') }}

),

waiting_sends as (

    select * from {{ ref('stg_sends') }}
    where state = 'pending'

),

progress as (

    select * from {{ ref('enrollment_progress') }}

),

step_places as (

    select * from {{ ref('step_places') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

steps as (

    select * from {{ ref('stg_journey_steps') }}

),

describe_waiting as (

    select
        sends.send_id,
        cast(null as varchar) as candidate_id,
        true as is_waiting,
        sends.as_of as decided_at,
        sends.waits_since,
        run.as_of,
        sends.enrollment_id,
        progress.profile_id,
        progress.journey,
        coalesce(step_places.current_step, sends.step) as step,
        coalesce(step_places.step_position, 0) as step_position,
        sends.channel,
        steps.send_time_seconds,
        -- what either the send or the journey calls marketing is marketing
        case
            when 'marketing' in (sends.message_class, journeys.message_class)
                then 'marketing'
            else sends.message_class
        end as message_class,
        journeys.priority,
        progress.assignment,
        progress.entered_at,
        sends.as_of as due_at,
        progress.evidence_message_id,
        sends.content_id,
        steps.incentive_code,
        steps.incentive_percent,
        steps.incentive_valid_seconds,
        steps.incentive_maximum_propensity
    from waiting_sends as sends
    cross join run
    -- the person by now, whom merges may have given another id
    inner join progress on sends.enrollment_id = progress.enrollment_id
    left join step_places
        on
            sends.journey = step_places.journey
            and sends.step = step_places.step
            and {{ named_then('step_places', 'sends.as_of') }}
    left join journeys on progress.journey = journeys.journey
    left join steps
        on
            progress.journey = steps.journey
            and step_places.current_step = steps.step
            and sends.channel = steps.channel
    where run.is_newest

),

describe_due as (

    select
        send_id,
        candidate_id,
        false as is_waiting,
        as_of as decided_at,
        as_of as waits_since,
        as_of,
        enrollment_id,
        profile_id,
        journey,
        step,
        step_position,
        channel,
        send_time_seconds,
        message_class,
        priority,
        assignment,
        entered_at,
        due_at,
        evidence_message_id,
        content_id,
        incentive_code,
        incentive_percent,
        incentive_valid_seconds,
        incentive_maximum_propensity
    from due_steps

),

unite_sends as (

    select * from describe_due
    union all
    select * from describe_waiting

)

select * from unite_sends
