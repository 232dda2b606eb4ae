-- One row per product: what it is called now, how many wanted it lately, and whether
-- people buy it again.
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

mark_recent as (

    select
        product_interactions.*,
        product_interactions.occurred_at > {{ add_days(
            'run.as_of', '-rules.recent_days'
        ) }} as is_recent
    from product_interactions
    cross join run
    cross join rules
    where product_interactions.product_id is not null

),

describe_products as (

    select
        product_id,
        {%- for fact in ['product_name', 'category', 'brand', 'price'] %}
        max_by({{ fact }}, (occurred_at, message_id))
            filter (where {{ fact }} is not null) as {{ fact }},
        {%- endfor %}
        count(distinct case when is_recent and action = 'ordered' then profile_id end)
            as recent_buyer_count,
        count(case when is_recent and action = 'viewed' then 1 end)
            as recent_view_count
    from mark_recent
    group by product_id

),

-- two of it on one day (UTC) are one purchase: nobody came back for the second
count_order_days as (

    select
        product_id,
        profile_id,
        count(distinct date_trunc('day', occurred_at)) as order_day_count
    from mark_recent
    where action = 'ordered'
    group by product_id, profile_id

),

count_buyers as (

    select
        product_id,
        count(*) as buyer_count,
        count(case when order_day_count > 1 then 1 end) as repeat_buyer_count
    from count_order_days
    group by product_id

),

count_repeats as (

    select
        describe_products.product_id,
        describe_products.product_name,
        describe_products.category,
        describe_products.brand,
        describe_products.price,
        describe_products.recent_buyer_count,
        describe_products.recent_view_count,
        coalesce(count_buyers.buyer_count, 0) as buyer_count,
        coalesce(count_buyers.repeat_buyer_count, 0) as repeat_buyer_count,
        coalesce(
            count_buyers.buyer_count >= rules.repeat_min_buyers
            and count_buyers.repeat_buyer_count
            >= rules.repeat_min_share * count_buyers.buyer_count,
            false
        ) as is_bought_repeatedly
    from describe_products
    cross join rules
    left join count_buyers on describe_products.product_id = count_buyers.product_id

)

select * from count_repeats
