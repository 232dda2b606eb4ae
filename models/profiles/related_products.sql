-- One row per product and one of the products most often bought or viewed with it.
with

product_interactions as (

    select * from {{ ref('product_interactions') }}

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

fill_baskets as (

    select distinct
        case
            when product_interactions.action = 'ordered'
                then 'order:' || product_interactions.message_id
            else 'session:' || product_interactions.session_id
        end as basket,
        product_interactions.product_id
    from product_interactions
    cross join run
    cross join rules
    where
        product_interactions.action in ('viewed', 'ordered')
        and product_interactions.product_id is not null
        and product_interactions.occurred_at > {{ add_days(
            'run.as_of', '-rules.related_lookback_days'
        ) }}

),

keep_small_baskets as (

    select
        fill_baskets.basket,
        fill_baskets.product_id
    from fill_baskets
    cross join rules
    qualify
        count(*) over (partition by fill_baskets.basket)
        between 2 and rules.related_max_basket

),

count_products as (

    select
        product_id,
        count(*) as basket_count
    from keep_small_baskets
    group by product_id

),

count_pairs as (

    select
        one.product_id,
        other.product_id as related_product_id,
        count(*) as basket_count
    from keep_small_baskets as one
    inner join keep_small_baskets as other
        on one.basket = other.basket and one.product_id <> other.product_id
    group by one.product_id, other.product_id

),

measure_likeness as (

    select
        count_pairs.product_id,
        count_pairs.related_product_id,
        count_pairs.basket_count,
        cast(count_pairs.basket_count as double) / nullif(
            sqrt(cast(products.basket_count * related.basket_count as double)), 0
        ) as likeness
    from count_pairs
    inner join count_products as products
        on count_pairs.product_id = products.product_id
    inner join count_products as related
        on count_pairs.related_product_id = related.product_id
    cross join rules
    where count_pairs.basket_count >= rules.related_min_support

),

rank_related as (

    select
        *,
        row_number() over (
            partition by product_id
            order by likeness desc, basket_count desc, related_product_id asc
        ) as related_rank
    from measure_likeness

),

name_related as (

    select
        rank_related.product_id,
        rank_related.related_product_id,
        product_stats.product_name as related_product_name,
        product_stats.price as related_price,
        rank_related.related_rank as rank,
        rank_related.basket_count,
        rank_related.likeness
    from rank_related
    inner join product_stats
        on rank_related.related_product_id = product_stats.product_id
    cross join rules
    where rank_related.related_rank <= rules.related_per_product

)

select * from name_related
