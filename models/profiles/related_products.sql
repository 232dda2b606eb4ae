-- One row per product and one of the products most often bought with it, else viewed
-- with it, beyond chance.
with

product_pairs as (

    select * from {{ ref('product_pairs') }}

),

product_stats as (

    select * from {{ ref('product_stats') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

keep_supported as (

    select product_pairs.*
    from product_pairs
    cross join rules
    where
        product_pairs.basket_count >= rules.related_min_support
        and product_pairs.lift > rules.related_min_lift

),

-- bought_together comes before viewed_together
prefer_bought as (

    select * from keep_supported
    qualify row_number() over (
        partition by product_id, related_product_id order by relation asc
    ) = 1

),

rank_related as (

    select
        *,
        row_number() over (
            partition by product_id
            order by
                relation asc,
                lift desc,
                basket_count desc,
                related_product_id asc
        ) as related_rank
    from prefer_bought

),

name_related as (

    select
        rank_related.product_id,
        rank_related.related_product_id,
        product_stats.product_name as related_product_name,
        product_stats.price as related_price,
        rank_related.related_rank as rank,
        rank_related.relation,
        rank_related.basket_count,
        rank_related.lift
    from rank_related
    inner join product_stats
        on rank_related.related_product_id = product_stats.product_id
    cross join rules
    where rank_related.related_rank <= rules.related_per_product

)

select * from name_related
