-- One row per product and currency: what it is called and costs where that is paid.
with

product_interactions as (

    select * from {{ ref('product_interactions') }}
    where product_id is not null and currency is not null

),

describe_products as (

    select
        product_id,
        currency,
        {%- for fact in ['product_name', 'category'] %}
        max_by({{ fact }}, (occurred_at, message_id))
            filter (where {{ fact }} is not null) as {{ fact }},
        {%- endfor %}
        -- what somebody paid may be less than what it costs
        max_by(price, (action <> 'ordered', occurred_at, message_id))
            filter (where price is not null) as price
    from product_interactions
    group by product_id, currency

)

select * from describe_products
