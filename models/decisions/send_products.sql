-- One row per message that may go out in this run: the product that it is about, as
-- this person knows it now, and the one currency that the message speaks of.
with

verdicts as (

    select * from {{ ref('verdicts') }}
    where verdict = 'send'

),

run as (

    select * from {{ ref('stg_run') }}

),

entries as (

    select * from {{ ref('entries') }}

),

cart_items as (

    select * from {{ ref('cart_items') }}

),

product_stats as (

    select * from {{ ref('product_stats') }}

),

product_prices as (

    select * from {{ ref('product_prices') }}

),

product_interactions as (

    select * from {{ ref('product_interactions') }}
    where profile_id in (select verdicts.profile_id from verdicts)

),

favourite_products as (

    select * from {{ ref('product_affinities') }}
    qualify row_number() over (
        partition by profile_id order by affinity desc, product_id asc
    ) = 1

),

-- what lies in the cart now, whatever lay there when the journey began
newest_cart_items as (

    select * from cart_items
    qualify row_number() over (
        partition by profile_id
        order by added_at desc, message_id desc, product_id desc
    ) = 1

),

choose_products as (

    select
        verdicts.send_id,
        verdicts.profile_id,
        entries.cart_value_amount as entry_cart_value_amount,
        coalesce(
            case
                when
                    entries.entry_reason in ('cart_abandoned', 'checkout_abandoned')
                    and cart_items.product_id is null
                    then newest_cart_items.product_id
            end,
            entries.product_id,
            favourite_products.product_id
        ) as product_id
    from verdicts
    inner join entries on verdicts.enrollment_id = entries.enrollment_id
    left join cart_items
        on
            verdicts.profile_id = cart_items.profile_id
            and entries.product_id = cart_items.product_id
    left join newest_cart_items on verdicts.profile_id = newest_cart_items.profile_id
    left join favourite_products
        on verdicts.profile_id = favourite_products.profile_id

),

own_products as (

    select
        profile_id,
        product_id,
        {%- for fact in ['product_name', 'category'] %}
        max_by({{ fact }}, (occurred_at, message_id))
            filter (where {{ fact }} is not null) as {{ fact }},
        {%- endfor %}
        {%- for fact in ['price', 'currency'] %}
        max_by({{ fact }}, (occurred_at, message_id))
            filter (where price is not null and currency is not null) as {{ fact }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from product_interactions
    where product_id is not null
    group by profile_id, product_id

),

own_currencies as (

    select
        profile_id,
        max_by(currency, (occurred_at, message_id)) as currency
    from product_interactions
    where price is not null and currency is not null
    group by profile_id

),

choose_currencies as (

    select
        choose_products.*,
        own_products.product_name,
        own_products.category,
        own_products.price,
        coalesce(own_products.currency, own_currencies.currency, run.base_currency)
            as currency
    from choose_products
    cross join run
    left join own_products
        on
            choose_products.profile_id = own_products.profile_id
            and choose_products.product_id = own_products.product_id
    left join own_currencies on choose_products.profile_id = own_currencies.profile_id

),

value_carts as (

    select
        choose_currencies.send_id,
        cast(
            try_cast(
                sum(cart_items.quantity * cast(cart_items.price as decimal(38, 2)))
                as decimal(14, 2)
            ) as decimal(18, 2)
        ) as cart_value_amount,
        max(
            case
                when cart_items.currency = choose_currencies.currency then 0 else 1
            end
        ) = 0 as is_in_currency
    from choose_currencies
    inner join cart_items on choose_currencies.profile_id = cart_items.profile_id
    group by choose_currencies.send_id

),

describe_products as (

    select
        chosen.send_id,
        chosen.profile_id,
        chosen.product_id,
        chosen.currency,
        coalesce(
            chosen.product_name,
            product_prices.product_name,
            product_stats.product_name
        ) as product_name,
        coalesce(chosen.category, product_prices.category, product_stats.category)
            as category,
        coalesce(chosen.price, product_prices.price) as product_price,
        product_stats.recent_buyer_count,
        case
            when value_carts.send_id is null then chosen.entry_cart_value_amount
            when value_carts.is_in_currency then value_carts.cart_value_amount
        end as cart_value_amount
    from choose_currencies as chosen
    left join product_stats on chosen.product_id = product_stats.product_id
    left join product_prices
        on
            chosen.product_id = product_prices.product_id
            and chosen.currency = product_prices.currency
    left join value_carts on chosen.send_id = value_carts.send_id

)

select * from describe_products
