-- One row per experiment, variation that is not its control, and metric: what the
-- variation caused, or why nothing can be said of it.
with

experiment_exposures as (

    select * from {{ ref('experiment_exposures') }}

),

lift_arms as (

    select * from {{ ref('lift_arms') }}
    where trial_type = 'experiment'

),

lift_comparisons as (

    select * from {{ ref('lift_comparisons') }}
    where trial_type = 'experiment'

),

describe_experiments as (

    select
        experiment,
        max(control_variation) as control_variation,
        count(case when exclusion_reason = 'horizon_open' then 1 end) as waiting_count,
        count(case when exclusion_reason <> 'horizon_open' then 1 end)
            as excluded_count
    from experiment_exposures
    group by experiment

),

list_variations as (

    select distinct
        experiment,
        variation
    from experiment_exposures
    where variation is distinct from control_variation and variation is not null

),

list_comparisons as (

    {%- for metric in ['visit', 'conversion', 'spend'] %}
    select
        experiments.*,
        variations.variation,
        '{{ metric }}' as metric
    from describe_experiments as experiments
    left join list_variations as variations
        on experiments.experiment = variations.experiment
    {{- ' union all' if not loop.last }}
    {%- endfor %}

),

read_comparisons as (

    select
        listed.experiment,
        listed.variation,
        listed.metric,
        listed.control_variation,
        coalesce(compared.treated_count, 0) as treated_count,
        coalesce(control.profile_count, 0) as control_count,
        compared.mean_treated,
        case listed.metric
            when 'visit' then control.visit_rate
            when 'conversion' then control.conversion_rate
            else control.revenue_mean
        end as mean_control,
        compared.incremental_lift,
        compared.lift_low,
        compared.lift_high,
        compared.finding,
        compared.always_valid_low,
        compared.always_valid_high,
        compared.adjusted_lift,
        compared.adjusted_low,
        compared.adjusted_high,
        compared.minimal_detectable_lift,
        compared.still_needed_count,
        listed.waiting_count,
        listed.excluded_count,
        compared.sample_ratio_p_value,
        case
            when listed.control_variation is null then 'no_control_named'
            when compared.treated_count > 0 and control.profile_count > 0
                then compared.unknown_reason
            when listed.waiting_count > 0 then 'horizon_open'
            when coalesce(compared.treated_count, 0) = 0 then 'nobody_treated'
            else 'no_control_group'
        end as unknown_reason
    from list_comparisons as listed
    left join lift_comparisons as compared
        on
            listed.experiment = compared.trial
            and listed.variation = compared.arm
            and listed.metric = compared.metric
    left join lift_arms as control
        on listed.experiment = control.trial and control.is_control

)

select * from read_comparisons
