-- One row per name of a journey and step and span in which it meant the same: what they
-- are called now and which place the step has.
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

newest_versions as (

    select * from versions
    qualify as_of = max(as_of) over (partition by journey_key)

),

current_names as (

    select distinct
        newest_versions.journey_key,
        newest_versions.step_key,
        steps.journey,
        steps.step,
        steps.step_position,
        steps.is_escalation
    from {{ ref('stg_journey_steps') }} as steps
    inner join newest_versions
        on
            steps.journey = newest_versions.journey
            and steps.step = newest_versions.step

),

journey_names as (

    select distinct
        journey_key,
        current_journey
    from {{ ref('journey_names') }}

),

-- a name may be given to another step once the one that had it has a new one
span_names as (

    select
        journey,
        step,
        journey_key,
        step_key,
        case
            when min(min(as_of)) over (partition by journey, step) < min(as_of)
                then min(as_of)
        end as named_from,
        lead(min(as_of)) over (
            partition by journey, step order by min(as_of) asc
        ) as named_until
    from versions
    group by journey, step, journey_key, step_key

),

-- a step that is gone has the place of the last one before it that is left
find_places as (

    select
        gone.journey_key,
        gone.step_key,
        max(current_names.step_position) as step_position
    from versions as gone
    inner join versions
        on
            gone.journey_key = versions.journey_key
            and gone.as_of = versions.as_of
            and gone.step_position >= versions.step_position
    inner join current_names
        on
            versions.journey_key = current_names.journey_key
            and versions.step_key = current_names.step_key
    group by 1, 2

),

name_places as (

    select
        span_names.journey,
        span_names.step,
        span_names.named_from,
        span_names.named_until,
        journey_names.current_journey,
        current_names.step as current_step,
        coalesce(
            current_names.step_position, find_places.step_position, 0
        ) as step_position,
        coalesce(current_names.is_escalation, false) as is_escalation
    from span_names
    inner join journey_names on span_names.journey_key = journey_names.journey_key
    left join current_names
        on
            span_names.journey_key = current_names.journey_key
            and span_names.step_key = current_names.step_key
    left join find_places
        on
            span_names.journey_key = find_places.journey_key
            and span_names.step_key = find_places.step_key

)

select * from name_places
