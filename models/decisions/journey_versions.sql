-- One row per journey, version of its steps and step: under which keys the two are
-- known, whatever they are called. Append-only.
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

-- what a journey was like when it was last seen, under its last name
last_steps as (

    select * from known_steps
    qualify as_of = max(as_of) over (partition by journey_key)

),

known_names as (

    select
        journey,
        max_by(journey_key, as_of) as journey_key,
        max(as_of) as seen_at
    from known_steps
    group by journey

),

list_steps as (

    select
        journey,
        {{ ordered_list('step', 'step_position asc') }} as step_names
    from current_steps
    group by journey

),

list_last_steps as (

    select
        journey_key,
        journey,
        as_of,
        {{ ordered_list('step', 'step_position asc') }} as step_names
    from last_steps
    group by 1, 2, 3

),

-- a new name over the steps of a journey that is gone is another name of it
find_renamed as (

    select
        list_steps.journey,
        list_last_steps.journey_key
    from list_steps
    inner join list_last_steps on list_steps.step_names = list_last_steps.step_names
    where
        list_steps.journey not in (select known_names.journey from known_names)
        and list_last_steps.journey_key not in (
            select known_names.journey_key
            from known_names
            where
                known_names.journey in (
                    select current_steps.journey from current_steps
                )
                or known_names.journey in (select set_aside.journey from set_aside)
        )
    qualify row_number() over (
        partition by list_steps.journey
        order by list_last_steps.as_of desc, list_last_steps.journey_key asc
    ) = 1
    and row_number() over (
        partition by list_last_steps.journey_key order by list_steps.journey asc
    ) = 1

),

claim_keys as (

    select
        list_steps.journey,
        list_steps.step_names,
        known_names.seen_at,
        coalesce(
            known_names.journey_key, find_renamed.journey_key, list_steps.journey
        ) as journey_key
    from list_steps
    left join known_names on list_steps.journey = known_names.journey
    left join find_renamed on list_steps.journey = find_renamed.journey

),

-- a name that was given up for another one, and is used again, is a journey of its own
key_journeys as (

    select
        claim_keys.journey,
        claim_keys.step_names,
        case
            when
                row_number() over (
                    partition by claim_keys.journey_key
                    order by
                        claim_keys.seen_at desc nulls last,
                        claim_keys.journey asc
                ) = 1
                then claim_keys.journey_key
            else {{ surrogate_key(['claim_keys.journey', 'run.as_of']) }}
        end as journey_key
    from claim_keys
    cross join run

),

-- between two steps that kept their names, as many steps as before are the same ones
number_steps as (

    select
        current_steps.*,
        key_journeys.journey_key,
        same_steps.step_key as same_step_key,
        count(same_steps.step_key) over (
            partition by current_steps.journey order by current_steps.step_position asc
        ) as gap
    from current_steps
    inner join key_journeys on current_steps.journey = key_journeys.journey
    left join last_steps as same_steps
        on
            key_journeys.journey_key = same_steps.journey_key
            and current_steps.step = same_steps.step

),

number_last_steps as (

    select
        last_steps.*,
        same_steps.step as same_step,
        count(same_steps.step) over (
            partition by last_steps.journey_key order by last_steps.step_position asc
        ) as gap
    from last_steps
    left join number_steps as same_steps
        on
            last_steps.journey_key = same_steps.journey_key
            and last_steps.step = same_steps.step

),

place_new_names as (

    select
        *,
        row_number() over (
            partition by journey_key, gap order by step_position asc
        ) as place,
        count(*) over (partition by journey_key, gap) as place_count
    from number_steps
    where same_step_key is null

),

place_lost_names as (

    select
        *,
        row_number() over (
            partition by journey_key, gap order by step_position asc
        ) as place,
        count(*) over (partition by journey_key, gap) as place_count
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
            place_new_names.journey_key = place_lost_names.journey_key
            and place_new_names.gap = place_lost_names.gap
            and place_new_names.place = place_lost_names.place
            and place_new_names.place_count = place_lost_names.place_count
    where run.is_newest

),

keep_changed as (

    select key_steps.*
    from key_steps
    inner join key_journeys on key_steps.journey = key_journeys.journey
    left join list_last_steps
        on key_steps.journey_key = list_last_steps.journey_key
    where
        list_last_steps.journey_key is null
        or (
            list_last_steps.as_of < key_steps.as_of
            and (
                list_last_steps.journey <> key_steps.journey
                or list_last_steps.step_names <> key_journeys.step_names
            )
        )

)

select * from keep_changed
