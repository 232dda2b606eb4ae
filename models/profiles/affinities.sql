-- One row per profile and category: how much of its interest the category holds.
with

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

weights as (

    select * from {{ ref('affinity_weights') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

weigh_interactions as (

    select
        product_interactions.profile_id,
        product_interactions.category,
        product_interactions.occurred_at,
        cast(
            weights.weight * {{ decay(
                'product_interactions.occurred_at',
                'run.as_of',
                'rules.affinity_half_life_days',
            ) }} as decimal(18, 9)
        ) as interest
    from product_interactions
    inner join weights on product_interactions.action = weights.action
    cross join run
    cross join rules
    where product_interactions.category is not null

),

sum_interests as (

    select
        profile_id,
        category,
        sum(interest) as interest,
        count(*) as interaction_count,
        max(occurred_at) as last_interaction_at
    from weigh_interactions
    group by profile_id, category

),

share_interests as (

    select
        sum_interests.profile_id,
        sum_interests.category,
        cast(
            cast(sum_interests.interest as double) / nullif(cast(
                sum(sum_interests.interest) over (
                    partition by sum_interests.profile_id
                ) + rules.affinity_prior_weight as double
            ), 0) as double
        ) as affinity,
        sum_interests.interaction_count,
        sum_interests.last_interaction_at
    from sum_interests
    cross join rules

)

select * from share_interests
