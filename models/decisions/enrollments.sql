-- One row per journey, profile and entry: where this person is in this journey.
with

run as (

    select * from {{ ref('stg_run') }}

),

progress as (

    select * from {{ ref('enrollment_progress') }}

),

-- those of a home of before they were recorded have no run
recorded_exits as (

    select exits.*
    from {{ ref('enrollment_exits') }} as exits
    cross join run
    where coalesce(exits.as_of, exits.exited_at) <= run.as_of

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

set_aside as (

    select distinct journey from {{ ref('stg_journey_problems') }}

),

-- a journey that marketers took away ends where it stands, and goes on if they bring it
-- back; one that waits to be mended goes on then
find_exits as (

    select
        progress.enrollment_id,
        coalesce(
            recorded_exits.exit_reason,
            case
                when
                    journeys.journey is null
                    and progress.journey not in (
                        select set_aside.journey from set_aside
                    )
                    then 'withdrawn'
            end
        ) as exit_reason,
        coalesce(recorded_exits.exited_at, run.as_of) as exited_at
    from progress
    cross join run
    left join recorded_exits on progress.enrollment_id = recorded_exits.enrollment_id
    left join journeys on progress.journey = journeys.journey

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
            when find_exits.exit_reason is null then 'active'
            when find_exits.exit_reason = 'completed' then 'completed'
            else 'exited'
        end as state,
        case
            when find_exits.exit_reason is not null
                then greatest(find_exits.exited_at, progress.entered_at)
        end as exited_at,
        find_exits.exit_reason,
        progress.send_count,
        progress.escalation_count,
        progress.is_engaged
    from progress
    inner join find_exits on progress.enrollment_id = find_exits.enrollment_id

)

select * from name_states
