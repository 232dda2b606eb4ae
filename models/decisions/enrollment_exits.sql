-- One row per enrollment that has ended: when and by which of its exits, the first one.
with

run as (

    select * from {{ ref('stg_run') }}

),

progress as (

    select * from {{ ref('enrollment_progress') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

set_aside as (

    select distinct journey from {{ ref('stg_journey_problems') }}

),

orders as (

    select
        profile_events.profile_id,
        stg_orders.ordered_at
    from {{ ref('stg_orders') }} as stg_orders
    inner join {{ ref('profile_events') }} as profile_events
        on stg_orders.message_id = profile_events.message_id
    where stg_orders.status <> 'cancelled'

),

missteps as (

    select * from {{ ref('missteps') }}

),

collect_exits as (

    select
        progress.enrollment_id,
        'converted' as exit_reason,
        orders.ordered_at as exited_at
    from progress
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_order
    inner join orders
        on
            progress.profile_id = orders.profile_id
            and progress.evidence_at < orders.ordered_at

    union all

    select
        progress.enrollment_id,
        'misstep' as exit_reason,
        missteps.opened_at as exited_at
    from progress
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_misstep
    inner join missteps
        on
            progress.profile_id = missteps.profile_id
            and progress.evidence_at < missteps.opened_at

    union all

    select
        progress.enrollment_id,
        'resolved' as exit_reason,
        missteps.resolved_at as exited_at
    from progress
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_resolved
    inner join missteps
        on
            progress.profile_id = missteps.profile_id
            and progress.evidence_message_id = missteps.evidence_message_id

    union all

    select
        progress.enrollment_id,
        case
            when progress.last_step_position >= journeys.step_count then 'completed'
            else 'expired'
        end as exit_reason,
        case
            when progress.last_step_position >= journeys.step_count
                then progress.last_sent_at
            else {{ add_seconds(
                'progress.entered_at', 'journeys.expires_after_seconds'
            ) }}
        end as exited_at
    from progress
    inner join journeys on progress.journey = journeys.journey

    union all

    -- a journey that marketers took away ends where it stands, one that waits to be
    -- mended goes on then
    select
        progress.enrollment_id,
        'withdrawn' as exit_reason,
        run.as_of as exited_at
    from progress
    cross join run
    where
        progress.journey not in (select journeys.journey from journeys)
        and progress.journey not in (select set_aside.journey from set_aside)

),

first_exits as (

    select
        collect_exits.enrollment_id,
        collect_exits.exit_reason,
        collect_exits.exited_at
    from collect_exits
    cross join run
    where collect_exits.exited_at <= run.as_of
    qualify row_number() over (
        partition by collect_exits.enrollment_id
        order by collect_exits.exited_at asc, collect_exits.exit_reason asc
    ) = 1

)

select * from first_exits
