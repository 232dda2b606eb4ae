-- One row per profile and one of the products that may come next for it, with the
-- product that speaks for it.
with

product_affinities as (

    select * from {{ ref('product_affinities') }}

),

related_products as (

    select * from {{ ref('related_products') }}

),

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

cart_items as (

    select * from {{ ref('cart_items') }}

),

product_stats as (

    select * from {{ ref('product_stats') }}

),

affinities as (

    select * from {{ ref('affinities') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

find_bought as (

    select distinct
        profile_id,
        product_id
    from product_interactions
    where action = 'ordered'

),

name_reasons as (

    select
        product_affinities.profile_id,
        product_affinities.product_id,
        product_affinities.product_name,
        product_affinities.affinity_rank,
        case
            when cart_items.product_id is not null then 'in_cart'
            when find_bought.product_id is not null then 'bought'
            else 'viewed'
        end as reason
    from product_affinities
    cross join rules
    left join cart_items
        on
            product_affinities.profile_id = cart_items.profile_id
            and product_affinities.product_id = cart_items.product_id
    left join find_bought
        on
            product_affinities.profile_id = find_bought.profile_id
            and product_affinities.product_id = find_bought.product_id
    where product_affinities.affinity_rank <= rules.next_products_from

),

-- bought_together comes before viewed_together
find_candidates as (

    select
        name_reasons.profile_id,
        name_reasons.product_id as reason_product_id,
        name_reasons.product_name as reason_product_name,
        name_reasons.reason,
        related_products.related_product_id as product_id,
        related_products.relation,
        related_products.lift
    from name_reasons
    inner join related_products on name_reasons.product_id = related_products.product_id
    qualify row_number() over (
        partition by name_reasons.profile_id, related_products.related_product_id
        order by
            related_products.relation asc,
            related_products.lift desc,
            name_reasons.affinity_rank asc
    ) = 1

),

score_candidates as (

    select
        candidates.*,
        product_stats.product_name,
        product_stats.category,
        product_stats.price,
        cast(candidates.lift * (1 + coalesce(affinities.affinity, 0)) as double)
            as score
    from find_candidates as candidates
    inner join product_stats on candidates.product_id = product_stats.product_id
    left join affinities
        on
            candidates.profile_id = affinities.profile_id
            and product_stats.category = affinities.category
    left join cart_items
        on
            candidates.profile_id = cart_items.profile_id
            and candidates.product_id = cart_items.product_id
    left join find_bought
        on
            candidates.profile_id = find_bought.profile_id
            and candidates.product_id = find_bought.product_id
    where
        cart_items.product_id is null
        and (find_bought.product_id is null or product_stats.is_bought_repeatedly)

),

rank_candidates as (

    select
        *,
        row_number() over (
            partition by profile_id
            order by relation asc, score desc, product_id asc
        ) as next_rank
    from score_candidates

),

keep_best as (

    select
        rank_candidates.profile_id,
        rank_candidates.product_id,
        rank_candidates.product_name,
        rank_candidates.category,
        rank_candidates.price,
        rank_candidates.next_rank as rank,
        rank_candidates.relation,
        rank_candidates.reason,
        rank_candidates.reason_product_id,
        rank_candidates.reason_product_name,
        rank_candidates.lift,
        rank_candidates.score
    from rank_candidates
    cross join rules
    where rank_candidates.next_rank <= rules.next_products_per_profile

)

select * from keep_best
