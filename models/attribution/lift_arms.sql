-- One row per trial and arm: how many came and bought, what they spent, and how many of
-- all the arm should hold.
with

lift_outcomes as (

    select * from {{ ref('lift_outcomes') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

experiment_shares as (

    select * from {{ ref('experiment_shares') }}

),

decision_rules as (

    select * from {{ ref('decision_rules') }}
    where rule = 'global_control'

),

-- whole cents, so that no order of rows shows
count_arms as (

    select
        trial_type,
        trial,
        arm,
        is_control,
        count(*) as profile_count,
        count(case when has_visited then 1 end) as visited_count,
        count(case when has_converted then 1 end) as converted_count,
        sum(revenue_amount) as revenue_amount,
        count(case when has_attributed_visit then 1 end) as attributed_visit_count,
        sum(attributed_conversion_count) as attributed_conversion_count,
        sum(attributed_revenue_amount) as attributed_revenue_amount,
        {%- for name, one, other in [
            ('revenue', 'revenue_amount', 'revenue_amount'),
            ('prior', 'prior_revenue_amount', 'prior_revenue_amount'),
            ('product', 'revenue_amount', 'prior_revenue_amount'),
        ] %}
        {%- if one == other %}
        cast(sum(cast({{ one }} * 100 as decimal(38, 0))) as double)
            as {{ name }}_cents,
        {%- endif %}
        cast(
            sum(
                cast({{ one }} * 100 as decimal(19, 0))
                * cast({{ other }} * 100 as decimal(19, 0))
            ) as double
        ) as {{ name }}_squares
        {{- ',' if not loop.last }}
        {%- endfor %}
    from lift_outcomes
    group by trial_type, trial, arm, is_control

),

find_holdout_shares as (

    select
        journeys.journey,
        (1 - journeys.holdout_rate) * case
            when journeys.message_class = 'marketing'
                then 1 - decision_rules.limit_value
            else 1
        end as treated_share
    from journeys
    cross join decision_rules

),

-- the arms of an experiment are alike unless the seed says otherwise; in `all` they
-- depend on which journeys people entered
describe_arms as (

    select
        count_arms.trial_type,
        count_arms.trial,
        count_arms.arm,
        count_arms.is_control,
        count_arms.profile_count,
        count_arms.visited_count,
        count_arms.converted_count,
        cast(count_arms.revenue_amount as decimal(18, 2)) as revenue_amount,
        count_arms.attributed_visit_count,
        cast(count_arms.attributed_conversion_count as decimal(38, 9))
            as attributed_conversion_count,
        cast(count_arms.attributed_revenue_amount as decimal(18, 2))
            as attributed_revenue_amount,
        cast(count_arms.visited_count as double) / count_arms.profile_count
            as visit_rate,
        cast(count_arms.converted_count as double) / count_arms.profile_count
            as conversion_rate,
        {%- for name, mean in [
            ('revenue', 'revenue'), ('prior', 'prior_revenue')
        ] %}
        {{ name }}_cents / profile_count / 100 as {{ mean }}_mean,
        greatest(
            {{ name }}_squares - {{ name }}_cents * {{ name }}_cents / profile_count, 0
        ) / nullif(profile_count - 1, 0) / 10000 as {{ mean }}_variance,
        {%- endfor %}
        (product_squares - revenue_cents * prior_cents / profile_count)
        / nullif(profile_count - 1, 0) / 10000 as revenue_covariance,
        case
            when count_arms.trial_type = 'journey' and count_arms.is_control
                then 1 - find_holdout_shares.treated_share
            when count_arms.trial_type = 'journey'
                then find_holdout_shares.treated_share
            else coalesce(experiment_shares.share, 1)
        end as expected_share
    from count_arms
    left join find_holdout_shares
        on
            count_arms.trial_type = 'journey'
            and count_arms.trial = find_holdout_shares.journey
    left join experiment_shares
        on
            count_arms.trial_type = 'experiment'
            and lower(count_arms.trial) = lower(trim(experiment_shares.experiment))
            and lower(count_arms.arm) = lower(trim(experiment_shares.variation))

)

select * from describe_arms
