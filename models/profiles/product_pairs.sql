-- One row per pair of products and kind of basket (orders, sessions) that held both:
-- how much more often than chance would have it.
with

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

fill_baskets as (

    select distinct
        case product_interactions.action
            when 'ordered' then 'bought_together' else 'viewed_together'
        end as relation,
        case product_interactions.action
            when 'ordered' then product_interactions.message_id
            else product_interactions.session_id
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

    select fill_baskets.*
    from fill_baskets
    cross join rules
    qualify
        count(*) over (partition by fill_baskets.relation, fill_baskets.basket)
        <= rules.related_max_basket

),

count_baskets as (

    select
        relation,
        count(distinct basket) as basket_count
    from keep_small_baskets
    group by relation

),

count_products as (

    select
        relation,
        product_id,
        count(*) as basket_count
    from keep_small_baskets
    group by relation, product_id

),

count_pairs as (

    select
        one.relation,
        one.product_id,
        other.product_id as related_product_id,
        count(*) as basket_count
    from keep_small_baskets as one
    inner join keep_small_baskets as other
        on
            one.relation = other.relation
            and one.basket = other.basket
            and one.product_id <> other.product_id
    group by one.relation, one.product_id, other.product_id

),

set_against_chance as (

    select
        pairs.*,
        cast(products.basket_count * related.basket_count as double)
        / nullif(count_baskets.basket_count, 0) as expected_count
    from count_pairs as pairs
    inner join count_baskets on pairs.relation = count_baskets.relation
    inner join count_products as products
        on pairs.relation = products.relation and pairs.product_id = products.product_id
    inner join count_products as related
        on
            pairs.relation = related.relation
            and pairs.related_product_id = related.product_id

),

shrink_to_chance as (

    select
        pairs.product_id,
        pairs.related_product_id,
        pairs.relation,
        pairs.basket_count,
        cast(
            (pairs.basket_count + cast(rules.related_prior_baskets as double))
            / (pairs.expected_count + cast(rules.related_prior_baskets as double))
            as double
        ) as lift
    from set_against_chance as pairs
    cross join rules

)

select * from shrink_to_chance
