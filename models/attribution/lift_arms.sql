-- One row per trial and arm: how many came and bought and what they spent, and how sure
-- that is.
with

lift_outcomes as (

    select * from {{ ref('lift_outcomes') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

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
        sum(attributed_revenue_amount) as attributed_revenue_amount,
        -- of decimals, so that no order of rows shows
        cast(sum(cast(revenue_amount * 100 as decimal(38, 0))) as double) as cents,
        cast(
            sum(
                cast(revenue_amount * 100 as decimal(19, 0))
                * cast(revenue_amount * 100 as decimal(19, 0))
            ) as double
        ) as squared_cents
    from lift_outcomes
    group by trial_type, trial, arm, is_control

),

find_rates as (

    select
        count_arms.*,
        cast(attribution_rules.lift_z_score as double) as z,
        cast(count_arms.visited_count as double) / count_arms.profile_count
            as visit_rate,
        cast(count_arms.converted_count as double) / count_arms.profile_count
            as conversion_rate
    from count_arms
    cross join attribution_rules

),

add_intervals as (

    select
        trial_type,
        trial,
        arm,
        is_control,
        profile_count,
        visited_count,
        converted_count,
        cast(revenue_amount as decimal(18, 2)) as revenue_amount,
        cast(attributed_revenue_amount as decimal(18, 2)) as attributed_revenue_amount,
        {%- for rate in ['visit_rate', 'conversion_rate'] %}
        {{ rate }},
        {%- for end, sign in {'low': '-', 'high': '+'}.items() %}
        -- Wilson's score interval: it holds for small groups and for rates of 0 and 1
        (
            {{ rate }} + z * z / (2 * profile_count)
            {{ sign }} z * sqrt(
                {{ rate }} * (1 - {{ rate }}) / profile_count
                + z * z / (4.0 * profile_count * profile_count)
            )
        ) / (1 + z * z / profile_count) as {{ rate }}_{{ end }},
        {%- endfor %}
        {%- endfor %}
        cents / profile_count / 100 as revenue_mean,
        greatest(squared_cents - cents * cents / profile_count, 0)
        / nullif(profile_count - 1, 0) / 10000 as revenue_variance
    from find_rates

)

select * from add_intervals
