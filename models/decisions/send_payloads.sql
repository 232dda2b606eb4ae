-- One row per message to be sent in this run: all that its content may speak of.
with

verdicts as (

    select * from {{ ref('verdicts') }}
    where verdict = 'send'

),

entries as (

    select * from {{ ref('entries') }}

),

profiles as (

    select * from {{ ref('profiles') }}

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

product_stats as (

    select * from {{ ref('product_stats') }}

),

favourite_products as (

    select * from {{ ref('product_affinities') }}
    qualify row_number() over (
        partition by profile_id order by affinity desc, product_id asc
    ) = 1

),

related_products as (

    select
        product_id,
        {{ ordered_list(make_struct({
            'product_id': 'related_product_id',
            'product_name': 'related_product_name',
            'price': 'related_price',
        }), 'related_products.rank asc') }} as related_products
    from {{ ref('related_products') }} as related_products
    where related_products.rank <= 3
    group by product_id

),

next_products as (

    select
        profile_id,
        {{ ordered_list(make_struct({
            'product_id': 'product_id',
            'product_name': 'product_name',
            'price': 'price',
        }), 'next_products.rank asc') }} as next_products
    from {{ ref('next_products') }} as next_products
    where next_products.rank <= 3
    group by profile_id

),

choose_products as (

    select
        verdicts.*,
        entries.cart_value_amount,
        orders.order_id,
        coalesce(entries.product_id, favourite_products.product_id) as product_id,
        coalesce(verdicts.incentive_code is not null, false)
        and coalesce(scores.purchase_propensity, 0)
        <= verdicts.incentive_maximum_propensity as has_incentive
    from verdicts
    inner join entries on verdicts.enrollment_id = entries.enrollment_id
    left join orders on entries.evidence_message_id = orders.message_id
    left join favourite_products
        on verdicts.profile_id = favourite_products.profile_id
    left join scores on verdicts.profile_id = scores.profile_id

),

gather_facts as (

    select
        choose_products.*,
        profiles.first_name,
        phases.phase_name,
        product_stats.product_name,
        product_stats.category,
        product_stats.price as product_price,
        product_stats.recent_buyer_count,
        coalesce(related_products.related_products, next_products.next_products)
            as related_products
    from choose_products
    inner join profiles on choose_products.profile_id = profiles.profile_id
    left join phases on choose_products.profile_id = phases.profile_id
    left join product_stats on choose_products.product_id = product_stats.product_id
    left join related_products
        on choose_products.product_id = related_products.product_id
    left join next_products on choose_products.profile_id = next_products.profile_id

),

write_payloads as (

    select
        candidate_id,
        {{ struct_json(make_struct({
            'first_name': 'first_name',
            'phase_name': 'phase_name',
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
