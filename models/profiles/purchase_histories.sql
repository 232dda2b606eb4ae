-- One row per profile that placed an order: what it bought online and in stores.
with

orders as (

    select * from {{ ref('stg_orders') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

assign_orders as (

    select
        profile_events.profile_id,
        orders.order_id,
        orders.ordered_at,
        orders.source,
        orders.store_id,
        orders.status <> 'cancelled' as stands,
        orders.base_revenue_amount
    from orders
    inner join profile_events on orders.message_id = profile_events.message_id

),

count_by_store as (

    select
        profile_id,
        store_id,
        count(*) as order_count,
        max(ordered_at) as last_order_at
    from assign_orders
    where stands and store_id is not null
    group by profile_id, store_id

),

choose_stores as (

    select
        profile_id,
        store_id
    from count_by_store
    qualify row_number() over (
        partition by profile_id
        order by order_count desc, last_order_at desc, store_id asc
    ) = 1

),

sum_by_profile as (

    select
        profile_id,
        max(ordered_at) as last_placed_at,
        count(case when not stands then 1 end) as cancelled_order_count,
        {%- for source in ['online', 'store'] %}
        count(case when stands and source = '{{ source }}' then 1 end)
            as {{ source }}_order_count,
        cast(
            coalesce(
                sum(
                    case
                        when stands and source = '{{ source }}'
                            then base_revenue_amount
                    end
                ), 0
            ) as decimal(18, 2)
        ) as {{ source }}_revenue_amount,
        {%- for end, pick in {'first': 'min', 'last': 'max'}.items() %}
        {{ pick }}(
            case when stands and source = '{{ source }}' then ordered_at end
        ) as {{ end }}_{{ source }}_order_at,
        {%- endfor %}
        {%- endfor %}
        count(*) as placed_order_count
    from assign_orders
    group by profile_id

),

describe_histories as (

    select
        sum_by_profile.profile_id,
        sum_by_profile.last_placed_at,
        sum_by_profile.first_online_order_at,
        sum_by_profile.last_online_order_at,
        sum_by_profile.first_store_order_at,
        sum_by_profile.last_store_order_at,
        choose_stores.store_id as favourite_store_id,
        sum_by_profile.placed_order_count,
        sum_by_profile.cancelled_order_count,
        sum_by_profile.online_order_count,
        sum_by_profile.store_order_count,
        sum_by_profile.online_revenue_amount,
        sum_by_profile.store_revenue_amount,
        cast(
            cast(sum_by_profile.online_order_count as double) / nullif(
                sum_by_profile.online_order_count + sum_by_profile.store_order_count, 0
            ) as double
        ) as online_order_share
    from sum_by_profile
    left join choose_stores on sum_by_profile.profile_id = choose_stores.profile_id

)

select * from describe_histories
