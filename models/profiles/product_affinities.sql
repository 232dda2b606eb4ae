-- One row per profile and one of the products that interest it most.
with

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

weights as (

    select * from {{ ref('affinity_weights') }}

),

product_stats as (

    select * from {{ ref('product_stats') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

sum_interests as (

    select
        product_interactions.profile_id,
        product_interactions.product_id,
        sum(cast(
            weights.weight * {{ decay(
                'product_interactions.occurred_at',
                'run.as_of',
                'rules.affinity_half_life_days',
            ) }} as decimal(18, 9)
        )) as interest,
        max(product_interactions.occurred_at) as last_viewed_at
    from product_interactions
    inner join weights on product_interactions.action = weights.action
    cross join run
    cross join rules
    where product_interactions.product_id is not null
    group by product_interactions.profile_id, product_interactions.product_id

),

share_interests as (

    select
        sum_interests.profile_id,
        sum_interests.product_id,
        cast(
            cast(sum_interests.interest as double) / nullif(cast(
                sum(sum_interests.interest) over (
                    partition by sum_interests.profile_id
                ) + rules.affinity_prior_weight as double
            ), 0) as double
        ) as affinity,
        sum_interests.last_viewed_at,
        row_number() over (
            partition by sum_interests.profile_id
            order by
                sum_interests.interest desc,
                sum_interests.last_viewed_at desc,
                sum_interests.product_id asc
        ) as affinity_rank,
        rules.products_per_profile
    from sum_interests
    cross join rules

),

keep_strongest as (

    select
        share_interests.profile_id,
        share_interests.product_id,
        product_stats.product_name,
        product_stats.category,
        product_stats.price,
        share_interests.affinity,
        share_interests.affinity_rank,
        share_interests.last_viewed_at
    from share_interests
    inner join product_stats on share_interests.product_id = product_stats.product_id
    where share_interests.affinity_rank <= share_interests.products_per_profile

)

select * from keep_strongest
