-- One row per entry: what the profile bought within the horizon.
with

lift_entries as (

    select * from {{ ref('lift_entries') }}

),

conversions as (

    select * from {{ ref('conversions') }}

),

credits as (

    select * from {{ ref('credits') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

find_conversions_within_horizon as (

    select
        lift_entries.journey,
        lift_entries.profile_id,
        conversions.conversion_id,
        conversions.revenue_amount
    from lift_entries
    inner join conversions
        on
            lift_entries.profile_id = conversions.profile_id
            and lift_entries.entered_at < conversions.converted_at
            and lift_entries.horizon_ends_at >= conversions.converted_at

),

sum_conversions as (

    select
        journey,
        profile_id,
        sum(revenue_amount) as revenue_amount
    from find_conversions_within_horizon
    group by journey, profile_id

),

sum_credits as (

    select
        found.journey,
        found.profile_id,
        sum(credits.revenue_amount) as attributed_revenue_amount
    from find_conversions_within_horizon as found
    inner join credits on found.conversion_id = credits.conversion_id
    inner join attribution_rules
        on credits.attribution_model = attribution_rules.lift_attribution_model
    where
        credits.journey = found.journey
        or (found.journey = 'all' and credits.journey is not null)
    group by found.journey, found.profile_id

),

describe_outcomes as (

    select
        lift_entries.journey,
        lift_entries.profile_id,
        lift_entries.is_treated,
        sum_conversions.profile_id is not null as has_converted,
        cast(coalesce(sum_conversions.revenue_amount, 0) as decimal(18, 2))
            as revenue_amount,
        cast(coalesce(sum_credits.attributed_revenue_amount, 0) as decimal(18, 2))
            as attributed_revenue_amount
    from lift_entries
    left join sum_conversions
        on
            lift_entries.journey = sum_conversions.journey
            and lift_entries.profile_id = sum_conversions.profile_id
    left join sum_credits
        on
            lift_entries.journey = sum_credits.journey
            and lift_entries.profile_id = sum_credits.profile_id

)

select * from describe_outcomes
