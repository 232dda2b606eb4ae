-- One row per message that may go out in this run and product that it may suggest: one
-- that goes with its own product, else one that suits the person.
with

send_products as (

    select * from {{ ref('send_products') }}

),

related_products as (

    select * from {{ ref('related_products') }}
    where rank <= 3

),

next_products as (

    select * from {{ ref('next_products') }}
    where rank <= 3

),

product_prices as (

    select * from {{ ref('product_prices') }}

),

suggest_products as (

    select
        send_products.send_id,
        send_products.currency,
        related_products.related_product_id as product_id,
        related_products.related_product_name as product_name,
        related_products.rank,
        1 as preference
    from send_products
    inner join related_products
        on send_products.product_id = related_products.product_id

    union all

    select
        send_products.send_id,
        send_products.currency,
        next_products.product_id,
        next_products.product_name,
        next_products.rank,
        2 as preference
    from send_products
    inner join next_products on send_products.profile_id = next_products.profile_id

),

keep_preferred as (

    select * from suggest_products
    qualify preference = min(preference) over (partition by send_id)

),

-- named and priced as they are where the message's currency is paid
price_suggestions as (

    select
        suggestions.send_id,
        suggestions.product_id,
        coalesce(product_prices.product_name, suggestions.product_name)
            as product_name,
        product_prices.price,
        suggestions.rank
    from keep_preferred as suggestions
    left join product_prices
        on
            suggestions.product_id = product_prices.product_id
            and suggestions.currency = product_prices.currency

)

select * from price_suggestions
