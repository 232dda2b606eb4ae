-- One row per message that may go out in this run: where to, and all that its content
-- may speak of, as it is now.
with

verdicts as (

    select * from {{ ref('verdicts') }}
    where verdict = 'send'

),

profiles as (

    select * from {{ ref('profiles') }}

),

contact_points as (

    select * from {{ ref('contact_points') }}

),

local_zones as (

    select * from {{ ref('local_zones') }}
    where is_likeliest

),

phases as (

    select * from {{ ref('phases') }}

),

scores as (

    select * from {{ source('ml', 'scores') }}

),

orders as (

    select * from {{ ref('stg_orders') }}

),

products as (

    select * from {{ ref('send_products') }}

),

list_suggestions as (

    select
        send_id,
        {{ ordered_list(make_struct({
            'product_id': 'product_id',
            'product_name': 'product_name',
            'price': 'price',
        }), 'rank asc') }} as related_products
    from {{ ref('send_suggestions') }}
    group by send_id

),

gather_facts as (

    select
        verdicts.send_id,
        verdicts.as_of,
        verdicts.incentive_code,
        verdicts.incentive_percent,
        verdicts.incentive_valid_seconds,
        contact_points.address,
        profiles.first_name,
        local_zones.time_zone as timezone,
        phases.phase_name,
        orders.order_id,
        products.currency,
        products.product_id,
        products.product_name,
        products.category,
        products.product_price,
        products.recent_buyer_count,
        products.cart_value_amount,
        list_suggestions.related_products,
        coalesce(verdicts.incentive_code is not null, false)
        and coalesce(scores.purchase_propensity, 0)
        <= verdicts.incentive_maximum_propensity as has_incentive
    from verdicts
    inner join profiles on verdicts.profile_id = profiles.profile_id
    inner join contact_points
        on
            verdicts.profile_id = contact_points.profile_id
            and verdicts.channel = contact_points.channel
    inner join local_zones on verdicts.profile_id = local_zones.profile_id
    inner join products on verdicts.send_id = products.send_id
    left join list_suggestions on verdicts.send_id = list_suggestions.send_id
    left join phases on verdicts.profile_id = phases.profile_id
    left join scores on verdicts.profile_id = scores.profile_id
    left join orders on verdicts.evidence_message_id = orders.message_id

),

write_payloads as (

    select
        send_id,
        address,
        {{ struct_json(make_struct({
            'first_name': 'first_name',
            'timezone': 'timezone',
            'phase_name': 'phase_name',
            'currency': 'currency',
            'product_id': 'product_id',
            'product_name': 'product_name',
            'category': 'category',
            'product_price': 'product_price',
            'recent_buyer_count': 'recent_buyer_count',
            'related_products': 'related_products',
            'cart_value_amount': 'cart_value_amount',
            'order_id': 'order_id',
            'incentive_code': 'case when has_incentive then incentive_code end',
            'incentive_percent': 'case when has_incentive then incentive_percent end',
            'incentive_ends_at': 'case when has_incentive then '
                ~ add_seconds('as_of', 'incentive_valid_seconds') ~ ' end',
        })) }} as payload
    from gather_facts

)

select * from write_payloads
