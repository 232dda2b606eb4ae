-- One row per experiment and profile that was shown a variation of it: the first one,
-- which holds, and why it does not count where it does not.
with

experiment_views as (

    select * from {{ ref('stg_experiments') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

profile_identifiers as (

    select * from {{ ref('profile_identifiers') }}

),

experiments as (

    select * from {{ ref('experiments') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

name_views as (

    select
        experiment_views.message_id,
        profile_events.profile_id,
        experiment_views.occurred_at,
        coalesce(
            experiment_views.experiment_id,
            experiment_views.experiment_name,
            '(unnamed)'
        ) as experiment,
        coalesce(
            experiment_views.variation_id, experiment_views.variation_name
        ) as variation,
        {%- for name in [
            'experiment_id', 'experiment_name', 'variation_id', 'variation_name'
        ] %}
        lower(trim(experiment_views.{{ name }})) as plain_{{ name }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from experiment_views
    inner join profile_events on experiment_views.message_id = profile_events.message_id

),

find_own_rules as (

    select distinct
        name_views.experiment,
        lower(trim(experiments.control_variation)) as control_variation,
        experiments.horizon_days
    from name_views
    inner join experiments
        on
            name_views.plain_experiment_id = lower(trim(experiments.experiment))
            or name_views.plain_experiment_name = lower(trim(experiments.experiment))

),

find_horizons as (

    select
        experiment,
        max(horizon_days) as horizon_days
    from find_own_rules
    group by experiment

),

-- what an experiment without a row of its own may call its control
list_usual_controls as (

    select lower(trim(control_variation)) as control_variation
    from experiments
    where experiment is null

),

match_controls as (

    select
        name_views.experiment,
        name_views.variation
    from name_views
    inner join find_own_rules
        on
            name_views.experiment = find_own_rules.experiment
            and (
                name_views.plain_variation_id = find_own_rules.control_variation
                or name_views.plain_variation_name = find_own_rules.control_variation
            )
    union
    select
        name_views.experiment,
        name_views.variation
    from name_views
    inner join list_usual_controls
        on
            name_views.plain_variation_id = list_usual_controls.control_variation
            or name_views.plain_variation_name = list_usual_controls.control_variation
    where
        name_views.experiment not in (
            select find_own_rules.experiment from find_own_rules
        )

),

-- of two that are called control, it is unknown which is
choose_controls as (

    select
        experiment,
        max(variation) as control_variation
    from match_controls
    group by experiment
    having count(*) = 1

),

find_first_exposures as (

    select
        experiment,
        profile_id,
        min_by(variation, (occurred_at, message_id))
            filter (where variation is not null) as variation,
        min(occurred_at) as exposed_at,
        count(distinct variation) as variation_count
    from name_views
    group by experiment, profile_id

),

add_horizons as (

    select
        exposures.*,
        choose_controls.control_variation,
        {{ add_days(
            'exposures.exposed_at',
            'coalesce(find_horizons.horizon_days, attribution_rules.lift_horizon_days)'
        ) }}
            as horizon_ends_at
    from find_first_exposures as exposures
    cross join attribution_rules
    left join find_horizons on exposures.experiment = find_horizons.experiment
    left join choose_controls on exposures.experiment = choose_controls.experiment

),

judge_exposures as (

    select
        add_horizons.experiment,
        add_horizons.profile_id,
        add_horizons.variation,
        add_horizons.control_variation,
        add_horizons.variation = add_horizons.control_variation as is_control,
        add_horizons.exposed_at,
        add_horizons.horizon_ends_at,
        case
            when profile_identifiers.is_hub then 'hub_profile'
            when add_horizons.variation_count = 0 then 'no_variation'
            when add_horizons.variation_count > 1 then 'several_variations'
            when add_horizons.horizon_ends_at > run.as_of then 'horizon_open'
        end as exclusion_reason
    from add_horizons
    cross join run
    left join profile_identifiers
        on add_horizons.profile_id = profile_identifiers.profile_id

)

select * from judge_exposures
