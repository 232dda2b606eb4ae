-- One row per journey (and `all`) and arm: how many converted, and how sure that is.
with

lift_outcomes as (

    select * from {{ ref('lift_outcomes') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

count_arms as (

    select
        journey,
        case when is_treated then 'treated' else 'control' end as arm,
        count(*) as profile_count,
        sum(case when has_converted then 1 else 0 end) as converted_count,
        sum(revenue_amount) as revenue_amount,
        sum(attributed_revenue_amount) as attributed_revenue_amount
    from lift_outcomes
    group by journey, is_treated

),

find_rates as (

    select
        count_arms.*,
        cast(attribution_rules.lift_z_score as double) as z,
        cast(count_arms.converted_count as double) / count_arms.profile_count as rate
    from count_arms
    cross join attribution_rules

),

-- Wilson's score interval: it holds for small groups and for rates of 0 and 1
add_intervals as (

    select
        journey,
        arm,
        profile_count,
        cast(converted_count as bigint) as converted_count,
        cast(revenue_amount as decimal(18, 2)) as revenue_amount,
        cast(attributed_revenue_amount as decimal(18, 2)) as attributed_revenue_amount,
        rate as conversion_rate,
        (
            rate + z * z / (2 * profile_count)
            - z * sqrt(
                rate * (1 - rate) / profile_count
                + z * z / (4.0 * profile_count * profile_count)
            )
        ) / (1 + z * z / profile_count) as rate_low,
        (
            rate + z * z / (2 * profile_count)
            + z * sqrt(
                rate * (1 - rate) / profile_count
                + z * z / (4.0 * profile_count * profile_count)
            )
        ) / (1 + z * z / profile_count) as rate_high
    from find_rates

)

select * from add_intervals
