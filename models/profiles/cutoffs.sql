-- One row per moment from which features look back: this run's `as_of`, and the
-- training
-- cutoffs, whose labels are known at the run's `training_cutoff_at`.
with

run as (

    select * from {{ ref('stg_run') }}

),

training_cutoffs as (

    select * from {{ ref('training_cutoffs') }}

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
            '-training_cutoffs.horizons_before * run.horizon_days'
        ) }} as cutoff_at,
        true as is_training
    from run
    cross join training_cutoffs

)

select * from list_cutoffs
