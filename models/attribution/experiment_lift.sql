-- One row per experiment, variation that is not its control, and metric: what the
-- variation caused, or why nothing can be said of it.
with

lift_entries as (

    select * from {{ ref('lift_entries') }}
    where trial_type = 'experiment'

),

lift_arms as (

    select * from {{ ref('lift_arms') }}
    where trial_type = 'experiment'

),

experiment_exposures as (

    select * from {{ ref('experiment_exposures') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

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
        trial as experiment,
        arm as variation
    from lift_entries
    where not is_control and arm is not null

),

pair_arms as (

    select
        experiments.experiment,
        experiments.control_variation,
        experiments.waiting_count,
        experiments.excluded_count,
        list_variations.variation,
        coalesce(treated.profile_count, 0) as treated_count,
        coalesce(control.profile_count, 0) as control_count,
        treated.visit_rate - control.visit_rate as visit_lift,
        treated.conversion_rate - control.conversion_rate as conversion_lift,
        treated.revenue_mean - control.revenue_mean as spend_lift,
        {%- for rate in ['visit_rate', 'conversion_rate'] %}
        treated.{{ rate }} as {{ rate }}_treated,
        control.{{ rate }} as {{ rate }}_control,
        {%- for end in ['low', 'high'] %}
        {{ difference_end(rate, end) }} as {{ rate }}_{{ end }},
        {%- endfor %}
        {%- endfor %}
        treated.revenue_mean as revenue_mean_treated,
        control.revenue_mean as revenue_mean_control,
        treated.revenue_variance / treated.profile_count as treated_error,
        control.revenue_variance / control.profile_count as control_error,
        cast(attribution_rules.lift_z_score as double) as z
    from describe_experiments as experiments
    cross join attribution_rules
    left join list_variations
        on experiments.experiment = list_variations.experiment
    left join lift_arms as treated
        on
            list_variations.experiment = treated.trial
            and list_variations.variation = treated.arm
    left join lift_arms as control
        on experiments.experiment = control.trial and control.is_control

),

-- Welch's degrees of freedom (1947)
count_freedom as (

    select
        *,
        sqrt(treated_error + control_error) as standard_error,
        power(treated_error + control_error, 2) / nullif(
            power(treated_error, 2) / nullif(treated_count - 1, 0)
            + power(control_error, 2) / nullif(control_count - 1, 0),
            0
        ) as freedom
    from pair_arms

),

-- Student's t for as much confidence as z stands for (Abramowitz and Stegun, 26.7.5)
find_margins as (

    select
        *,
        standard_error * (
            z
            + (power(z, 3) + z) / (4 * freedom)
            + (5 * power(z, 5) + 16 * power(z, 3) + 3 * z) / (96 * power(freedom, 2))
            + (3 * power(z, 7) + 19 * power(z, 5) + 17 * power(z, 3) - 15 * z)
            / (384 * power(freedom, 3))
        ) as spend_margin
    from count_freedom

),

list_metrics as (

    {%- for metric, mean in {
        'visit': 'visit_rate', 'conversion': 'conversion_rate', 'spend': 'revenue_mean',
    }.items() %}
    select
        experiment,
        variation,
        '{{ metric }}' as metric,
        control_variation,
        treated_count,
        control_count,
        {{ mean }}_treated as mean_treated,
        {{ mean }}_control as mean_control,
        {{ metric }}_lift as incremental_lift,
        {%- if metric == 'spend' %}
        spend_lift - spend_margin as lift_low,
        spend_lift + spend_margin as lift_high,
        {%- else %}
        {{ mean }}_low as lift_low,
        {{ mean }}_high as lift_high,
        {%- endif %}
        waiting_count,
        excluded_count,
        case
            when control_variation is null then 'no_control_named'
            when treated_count > 0 and control_count > 0 then null
            when waiting_count > 0 then 'horizon_open'
            when treated_count = 0 then 'nobody_treated'
            else 'no_control_group'
        end as unknown_reason
    from find_margins
    {{- ' union all' if not loop.last }}
    {%- endfor %}

)

select * from list_metrics
