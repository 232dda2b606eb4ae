-- One row per profile and product that lies in its cart: added, not taken out, and in
-- no cart that was ordered since.
with

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

cart_messages as (

    select * from {{ ref('cart_messages') }}

),

count_items as (

    select
        product_interactions.profile_id,
        product_interactions.product_id,
        sum(
            case
                when product_interactions.action = 'added'
                    then product_interactions.quantity
                else -product_interactions.quantity
            end
        ) as quantity,
        max_by(
            product_interactions.message_id,
            (product_interactions.occurred_at, product_interactions.message_id)
        ) filter (where product_interactions.action = 'added') as message_id
    from product_interactions
    inner join cart_messages
        on product_interactions.message_id = cart_messages.message_id
    where
        product_interactions.action in ('added', 'removed')
        and cart_messages.ordered_at is null
    group by product_interactions.profile_id, product_interactions.product_id

),

describe_items as (

    select
        count_items.profile_id,
        count_items.product_id,
        product_interactions.product_name,
        product_interactions.category,
        product_interactions.price,
        product_interactions.currency,
        cast(count_items.quantity as decimal(18, 3)) as quantity,
        product_interactions.occurred_at as added_at,
        product_interactions.message_id,
        product_interactions.session_id
    from count_items
    inner join product_interactions
        on
            count_items.message_id = product_interactions.message_id
            and count_items.product_id = product_interactions.product_id
    where count_items.quantity > 0

)

select * from describe_items
