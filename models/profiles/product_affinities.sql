-- One row per profile and one of the products that interest it most.
with

interests as (

    select * from {{ ref('interests') }}
    where kind = 'product'

),

product_stats as (

    select * from {{ ref('product_stats') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

rank_products as (

    select
        *,
        row_number() over (
            partition by profile_id
            order by affinity desc, last_interaction_at desc, value asc
        ) as affinity_rank
    from interests

),

keep_strongest as (

    select
        rank_products.profile_id,
        rank_products.value as product_id,
        product_stats.product_name,
        product_stats.category,
        product_stats.price,
        rank_products.affinity,
        rank_products.affinity_rank,
        rank_products.last_interaction_at as last_viewed_at
    from rank_products
    inner join product_stats on rank_products.value = product_stats.product_id
    cross join rules
    where rank_products.affinity_rank <= rules.products_per_profile

)

select * from keep_strongest
