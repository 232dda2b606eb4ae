-- One row per enrollment, step and channel at whose address the step arrived for
-- somebody else: two people may share an address, and one of them reads it.
with

run as (

    select * from {{ ref('stg_run') }}

),

sends as (

    select * from {{ ref('stg_sends') }}
    where state in ('inflight', 'sent', 'unknown') and address is not null

),

step_places as (

    select * from {{ ref('step_places') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

contact_points as (

    select * from {{ ref('contact_points') }}

),

enrollments as (

    select * from {{ ref('enrollments') }}

),

-- as long as one person may not begin the journey again, nobody else is told the same
-- at that address
find_repetitions as (

    select distinct
        enrollments.enrollment_id,
        step_places.current_step as step,
        sends.channel,
        {{ stated_rule('shared_address') }} as rule
    from sends
    cross join run
    inner join step_places
        on
            sends.journey = step_places.journey
            and sends.step = step_places.step
            and {{ named_then('step_places', 'sends.as_of') }}
    inner join journeys on step_places.current_journey = journeys.journey
    inner join contact_points
        on
            sends.channel = contact_points.channel
            and sends.address = contact_points.address
    inner join enrollments
        on
            contact_points.profile_id = enrollments.profile_id
            and journeys.journey = enrollments.journey
    left join enrollments as receivers
        on sends.enrollment_id = receivers.enrollment_id
    where
        coalesce(receivers.profile_id, '') <> enrollments.profile_id
        and (
            journeys.re_eligible_after_seconds is null
            or {{ add_seconds('sends.as_of', 'journeys.re_eligible_after_seconds') }}
            > run.as_of
        )

)

select * from find_repetitions
