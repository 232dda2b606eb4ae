-- One row per moment from which features look back: this run's `as_of`, and the
-- training cutoffs, before each of which at least one leading horizon was recorded.
with

profile_events as (

    select * from {{ ref('profile_events') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

training_cutoffs as (

    select * from {{ ref('training_cutoffs') }}

),

find_beginning as (

    select min(occurred_at) as first_event_at
    from profile_events

),

list_cutoffs as (

    select
        as_of as cutoff_at,
        false as is_training
    from run
    union all
    select
        {{ add_days(
            'run.training_cutoff_at',
            '-training_cutoffs.steps_before * ' ~ list_item('run.horizons_days', 1)
        ) }} as cutoff_at,
        true as is_training
    from run
    cross join training_cutoffs
    cross join find_beginning
    where
        find_beginning.first_event_at <= {{ add_days(
            'run.training_cutoff_at',
            '-(training_cutoffs.steps_before + 1) * ' ~ list_item('run.horizons_days', 1)
        ) }}

)

select * from list_cutoffs
