-- One row per enrollment, due step and channel of this as_of, before any rule.
with

run as (

    select * from {{ ref('stg_run') }}

),

open_steps as (

    select * from {{ ref('open_steps') }}

),

step_times as (

    select * from {{ ref('step_times') }}

),

phases as (

    select * from {{ ref('phases') }}

),

keep_due as (

    select
        {{ surrogate_key([
            'open_steps.enrollment_id',
            'open_steps.step',
            'open_steps.channel',
            'run.as_of',
        ]) }} as candidate_id,
        {{ surrogate_key([
            'open_steps.enrollment_id', 'open_steps.step', 'open_steps.channel'
        ]) }} as send_id,
        run.as_of,
        open_steps.enrollment_id,
        open_steps.profile_id,
        open_steps.journey,
        open_steps.step,
        open_steps.step_position,
        open_steps.channel,
        open_steps.channel_position,
        open_steps.uses_next_best_channel,
        open_steps.send_time_seconds,
        open_steps.is_escalation,
        open_steps.message_class,
        open_steps.priority,
        open_steps.assignment,
        open_steps.entered_at,
        step_times.due_at,
        open_steps.evidence_message_id,
        phases.phase,
        {{ list_item('open_steps.content_ids', 'coalesce(phases.phase, 1)') }}
            as content_id,
        open_steps.incentive_code,
        open_steps.incentive_percent,
        open_steps.incentive_valid_seconds,
        open_steps.incentive_maximum_propensity
    from open_steps
    inner join step_times
        on
            open_steps.enrollment_id = step_times.enrollment_id
            and open_steps.step_position = step_times.step_position
    cross join run
    left join phases on open_steps.profile_id = phases.profile_id
    where
        run.is_newest
        and step_times.is_next
        and step_times.is_ready
        and not open_steps.is_tried

)

select * from keep_due
