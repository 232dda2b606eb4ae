-- One row per journey, profile and entry: where this person is in this journey.
with

progress as (

    select * from {{ ref('enrollment_progress') }}

),

exits as (

    select * from {{ ref('enrollment_exits') }}

),

name_states as (

    select
        progress.enrollment_id,
        progress.journey,
        progress.journey_version,
        progress.profile_id,
        progress.assignment,
        progress.entered_at,
        progress.entry_reason,
        progress.evidence_message_id,
        progress.last_step as step,
        case
            when exits.exit_reason is null then 'active'
            when exits.exit_reason = 'completed' then 'completed'
            else 'exited'
        end as state,
        greatest(exits.exited_at, progress.entered_at) as exited_at,
        exits.exit_reason,
        progress.send_count,
        progress.escalation_count,
        progress.is_engaged
    from progress
    left join exits on progress.enrollment_id = exits.enrollment_id

)

select * from name_states
