-- One row per profile: what it is after now, and the message that says so.
with

identity_map as (

    select distinct profile_id from {{ ref('identity_map') }}

),

active_intents as (

    select * from {{ ref('active_intents') }}

),

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

cart_items as (

    select * from {{ ref('cart_items') }}

),

checkout_events as (

    select * from {{ ref('stg_checkout_events') }}

),

choose_intents as (

    select * from active_intents
    qualify row_number() over (
        partition by profile_id order by priority asc, intent asc
    ) = 1

),

find_evidence_products as (

    select
        message_id,
        min(product_id) as product_id,
        min_by(product_name, product_id) as product_name,
        min_by(category, product_id) as category,
        min_by(price, product_id) as price
    from product_interactions
    group by message_id

),

sum_carts as (

    select
        profile_id,
        cast(
            try_cast(
                sum(quantity * cast(price as decimal(38, 2))) as decimal(14, 2)
            ) as decimal(18, 2)
        ) as cart_value_amount,
        max_by(product_id, (added_at, message_id, product_id)) as product_id,
        max_by(product_name, (added_at, message_id, product_id)) as product_name,
        max_by(category, (added_at, message_id, product_id)) as category,
        max_by(price, (added_at, message_id, product_id)) as price
    from cart_items
    group by profile_id

),

describe_intents as (

    select
        identity_map.profile_id,
        coalesce(choose_intents.intent, 'none') as intent,
        choose_intents.evidence_message_id,
        choose_intents.occurred_at as intent_at,
        choose_intents.age_minutes as intent_age_minutes,
        choose_intents.session_id,
        choose_intents.surface,
        choose_intents.device_class,
        choose_intents.country,
        choose_intents.city,
        choose_intents.store_id,
        coalesce(products.product_id, sum_carts.product_id) as product_id,
        case
            when products.product_id is null then sum_carts.product_name
            else products.product_name
        end as product_name,
        case
            when products.product_id is null then sum_carts.category
            else products.category
        end as category,
        case
            when products.product_id is null then sum_carts.price
            else products.price
        end as price,
        coalesce(checkout_events.revenue_amount, sum_carts.cart_value_amount)
            as cart_value_amount
    from identity_map
    left join choose_intents on identity_map.profile_id = choose_intents.profile_id
    left join find_evidence_products as products
        on choose_intents.evidence_message_id = products.message_id
    left join sum_carts on choose_intents.profile_id = sum_carts.profile_id
    left join checkout_events
        on choose_intents.evidence_message_id = checkout_events.message_id

)

select * from describe_intents
