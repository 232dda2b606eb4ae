-- One row per journey (and `all`): what we caused, next to what credits say we earned.
with

lift_arms as (

    select * from {{ ref('lift_arms') }}

),

find_journeys as (

    select distinct journey from lift_arms

),

compare_arms as (

    select
        find_journeys.journey,
        coalesce(treated.profile_count, 0) as treated_count,
        coalesce(control.profile_count, 0) as control_count,
        treated.conversion_rate as conversion_rate_treated,
        control.conversion_rate as conversion_rate_control,
        treated.conversion_rate - control.conversion_rate as incremental_lift,
        -- Newcombe's hybrid score interval of a difference (1998, method 10)
        treated.conversion_rate - control.conversion_rate - sqrt(
            power(treated.conversion_rate - treated.rate_low, 2)
            + power(control.rate_high - control.conversion_rate, 2)
        ) as lift_low,
        treated.conversion_rate - control.conversion_rate + sqrt(
            power(treated.rate_high - treated.conversion_rate, 2)
            + power(control.conversion_rate - control.rate_low, 2)
        ) as lift_high,
        cast(
            treated.revenue_amount
            - treated.profile_count * control.revenue_amount / control.profile_count
            as decimal(18, 2)
        ) as incremental_revenue_amount,
        coalesce(treated.attributed_revenue_amount, 0) as attributed_revenue_amount
    from find_journeys
    left join lift_arms as treated
        on find_journeys.journey = treated.journey and treated.arm = 'treated'
    left join lift_arms as control
        on find_journeys.journey = control.journey and control.arm = 'control'

)

select * from compare_arms
