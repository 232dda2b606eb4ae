-- One row per journey, version of its steps and step: under which key the step is
-- known, whatever it and its journey are called. Append-only.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    full_refresh=false,
) }}

with

run as (

    select * from {{ ref('stg_run') }}

),

set_aside as (

    select distinct journey from {{ ref('stg_journey_problems') }}

),

current_steps as (

    select distinct
        journey,
        step,
        step_position
    from {{ ref('stg_journey_steps') }}

),

known_steps as (

    {% if is_incremental() %}
        select versions.*
        from {{ this }} as versions
        cross join run
        where versions.as_of <= run.as_of
    {% else %}
        select
            current_steps.*,
            cast(null as varchar) as journey_key,
            cast(null as varchar) as step_key,
            cast(null as timestamp) as as_of
        from current_steps
        where false
    {% endif %}

),

last_steps as (

    select * from known_steps
    qualify as_of = max(as_of) over (partition by journey)

),

list_names as (

    select
        current_steps.journey,
        {{ ordered_list('current_steps.step', 'current_steps.step_position asc') }}
            as step_names
    from current_steps
    group by current_steps.journey

),

list_known_names as (

    select
        last_steps.journey,
        last_steps.journey_key,
        last_steps.as_of,
        {{ ordered_list('last_steps.step', 'last_steps.step_position asc') }}
            as step_names
    from last_steps
    group by 1, 2, 3

),

-- a new name over the steps of a journey that is gone is another name of it
find_renamed_journeys as (

    select
        list_names.journey,
        list_known_names.journey as last_name,
        list_known_names.journey_key
    from list_names
    inner join list_known_names on list_names.step_names = list_known_names.step_names
    where
        list_names.journey not in (select known_steps.journey from known_steps)
        and list_known_names.journey not in (
            select current_steps.journey from current_steps
        )
        and list_known_names.journey not in (select set_aside.journey from set_aside)
    qualify row_number() over (
        partition by list_names.journey
        order by list_known_names.as_of desc, list_known_names.journey asc
    ) = 1
    and row_number() over (
        partition by list_known_names.journey order by list_names.journey asc
    ) = 1

),

name_journeys as (

    select
        current_steps.*,
        coalesce(renamed.last_name, current_steps.journey) as last_name,
        coalesce(
            renamed.journey_key, last_keys.journey_key, current_steps.journey
        ) as journey_key
    from current_steps
    left join find_renamed_journeys as renamed
        on current_steps.journey = renamed.journey
    left join list_known_names as last_keys
        on current_steps.journey = last_keys.journey

),

-- between two steps that kept their names, as many steps as before are the same ones
number_steps as (

    select
        name_journeys.*,
        same_steps.step_key as same_step_key,
        count(same_steps.step_key) over (
            partition by name_journeys.journey order by name_journeys.step_position asc
        ) as gap
    from name_journeys
    left join last_steps as same_steps
        on
            name_journeys.last_name = same_steps.journey
            and name_journeys.step = same_steps.step

),

number_last_steps as (

    select
        last_steps.*,
        same_steps.step as same_step,
        count(same_steps.step) over (
            partition by last_steps.journey order by last_steps.step_position asc
        ) as gap
    from last_steps
    left join name_journeys as same_steps
        on
            last_steps.journey = same_steps.last_name
            and last_steps.step = same_steps.step

),

place_new_names as (

    select
        *,
        row_number() over (
            partition by journey, gap order by step_position asc
        ) as place,
        count(*) over (partition by journey, gap) as place_count
    from number_steps
    where same_step_key is null

),

place_lost_names as (

    select
        *,
        row_number() over (
            partition by journey, gap order by step_position asc
        ) as place,
        count(*) over (partition by journey, gap) as place_count
    from number_last_steps
    where same_step is null

),

key_steps as (

    select
        number_steps.journey,
        number_steps.step,
        number_steps.step_position,
        number_steps.journey_key,
        coalesce(
            number_steps.same_step_key,
            place_lost_names.step_key,
            {{ surrogate_key([
                'number_steps.journey_key', 'number_steps.step', 'run.as_of'
            ]) }}
        ) as step_key,
        run.as_of
    from number_steps
    cross join run
    left join place_new_names
        on
            number_steps.journey = place_new_names.journey
            and number_steps.step = place_new_names.step
    left join place_lost_names
        on
            number_steps.last_name = place_lost_names.journey
            and place_new_names.gap = place_lost_names.gap
            and place_new_names.place = place_lost_names.place
            and place_new_names.place_count = place_lost_names.place_count
    where run.is_newest

),

keep_changed as (

    select key_steps.*
    from key_steps
    left join list_names on key_steps.journey = list_names.journey
    left join list_known_names on key_steps.journey = list_known_names.journey
    where
        list_known_names.journey is null
        or (
            list_names.step_names <> list_known_names.step_names
            and list_known_names.as_of < key_steps.as_of
        )

)

select * from keep_changed
