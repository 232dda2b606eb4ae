-- One row per product: what it is called now and how many wanted it lately.
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
        max_by(product_name, (occurred_at, message_id))
            filter (where product_name is not null) as product_name,
        max_by(category, (occurred_at, message_id))
            filter (where category is not null) as category,
        max_by(price, (occurred_at, message_id))
            filter (where price is not null) as price,
        count(distinct case when is_recent and action = 'ordered' then profile_id end)
            as recent_buyer_count,
        count(case when is_recent and action = 'viewed' then 1 end)
            as recent_view_count
    from mark_recent
    group by product_id

)

select * from describe_products
