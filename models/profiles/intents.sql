-- One row per profile: what it is after now, and the message that says so.
with

identity_map as (

    select distinct profile_id from {{ ref('identity_map') }}

),

intent_signals as (

    select * from {{ ref('intent_signals') }}

),

session_events as (

    select * from {{ ref('session_events') }}

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

run as (

    select * from {{ ref('stg_run') }}

),

intent_rules as (

    select * from {{ ref('intent_rules') }}

),

choose_intents as (

    select
        intent_signals.profile_id,
        intent_signals.intent,
        intent_signals.message_id,
        session_events.occurred_at,
        session_events.session_id
    from intent_signals
    inner join session_events
        on intent_signals.message_id = session_events.message_id
    inner join intent_rules on intent_signals.intent = intent_rules.intent
    cross join run
    where
        {{ seconds_between('session_events.occurred_at', 'run.as_of') }}
        <= 3600 * intent_rules.max_age_hours
    qualify row_number() over (
        partition by intent_signals.profile_id
        order by
            intent_rules.priority asc,
            session_events.occurred_at desc,
            intent_signals.message_id desc
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
        cast(sum(quantity * price) as decimal(18, 2)) as cart_value_amount,
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
        choose_intents.message_id as evidence_message_id,
        choose_intents.occurred_at as intent_at,
        choose_intents.session_id,
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
        on choose_intents.message_id = products.message_id
    left join sum_carts on choose_intents.profile_id = sum_carts.profile_id
    left join checkout_events
        on choose_intents.message_id = checkout_events.message_id

)

select * from describe_intents
