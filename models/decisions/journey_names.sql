-- One row per name of a journey and span in which it meant the same: what the journey
-- is called now, or was last.
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

last_names as (

    select
        journey_key,
        max_by(journey, as_of) as current_journey
    from versions
    group by journey_key

),

-- a name may be given to another journey once the one that had it has a new one
span_names as (

    select
        journey,
        journey_key,
        case
            when min(min(as_of)) over (partition by journey) < min(as_of)
                then min(as_of)
        end as named_from,
        lead(min(as_of)) over (partition by journey order by min(as_of) asc)
            as named_until
    from versions
    group by journey, journey_key

),

name_journeys as (

    select
        span_names.journey,
        span_names.named_from,
        span_names.named_until,
        span_names.journey_key,
        last_names.current_journey
    from span_names
    inner join last_names on span_names.journey_key = last_names.journey_key

)

select * from name_journeys
