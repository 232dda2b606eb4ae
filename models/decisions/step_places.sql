-- One row per journey and step, by every name that they ever had: what they are called
-- now and which place the step has.
with

run as (

    select * from {{ ref('stg_run') }}

),

versions as (

    select journey_versions.*
    from {{ ref('journey_versions') }} as journey_versions
    cross join run
    where journey_versions.as_of <= run.as_of

),

current_names as (

    select distinct
        versions.journey_key,
        versions.step_key,
        steps.journey,
        steps.step,
        steps.step_position,
        steps.is_escalation
    from {{ ref('stg_journey_steps') }} as steps
    inner join versions
        on steps.journey = versions.journey and steps.step = versions.step
    qualify versions.as_of = max(versions.as_of) over (
        partition by versions.journey, versions.step
    )

),

journey_names as (

    select distinct
        journey_key,
        journey
    from current_names

),

last_versions as (

    select * from versions
    qualify row_number() over (
        partition by journey, step order by as_of desc, step_key asc
    ) = 1

),

-- a step that is gone has the place of the last one before it that is left
find_places as (

    select
        last_versions.journey,
        last_versions.step,
        max(current_names.step_position) as step_position
    from last_versions
    inner join versions
        on
            last_versions.journey = versions.journey
            and last_versions.as_of = versions.as_of
            and last_versions.step_position >= versions.step_position
    inner join current_names
        on
            versions.step_key = current_names.step_key
            and last_versions.journey_key = current_names.journey_key
    group by 1, 2

),

name_places as (

    select
        last_versions.journey,
        last_versions.step,
        coalesce(journey_names.journey, last_versions.journey) as current_journey,
        current_names.step as current_step,
        coalesce(
            current_names.step_position, find_places.step_position, 0
        ) as step_position,
        coalesce(current_names.is_escalation, false) as is_escalation
    from last_versions
    left join journey_names
        on last_versions.journey_key = journey_names.journey_key
    left join current_names
        on
            last_versions.journey_key = current_names.journey_key
            and last_versions.step_key = current_names.step_key
    left join find_places
        on
            last_versions.journey = find_places.journey
            and last_versions.step = find_places.step

)

select * from name_places
