-- One row per message about an order: completed, updated, refunded, cancelled.
{%- set amounts = [
    'refund_amount', 'revenue', 'subtotal', 'total', 'shipping', 'tax', 'discount'
] %}
{%- set paths, minor_paths, unread_amounts = [], [], [] %}
{%- for name in amounts %}
    {%- do paths.append('$.' ~ name) %}
    {%- do minor_paths.append('$.' ~ name ~ '_minor') %}
    {%- do unread_amounts.append((name, 'amounts[' ~ loop.index ~ ']', name)) %}
    {%- do unread_amounts.append((name, 'minor_amounts[' ~ loop.index ~ ']', name)) %}
{%- endfor %}
{%- set stripe_objects = "('charge', 'refund', 'payment_intent', 'checkout.session',"
    ~ " 'invoice')" %}
with

events as (

    select * from {{ ref('stg_events') }}

),

order_ids as (

    select * from {{ ref('stg_order_ids') }}

),

currencies as (

    select * from {{ ref('currencies') }}

),

written_currencies as (

    select * from {{ ref('stg_currencies') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

minor_units as (

    select * from {{ spellings('amount_unit') }}

),

read_properties as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        properties,
        tool,
        {{ json_texts('properties', [
            '$.order_id',
            '$.coupon',
            '$.currency',
            '$.store_id',
            '$.affiliation',
            '$.channel',
            '$.refund_id',
            '$.amount_unit',
            '$.minor_units',
            '$.object',
            '$.cart_id',
        ]) }} as fields,
        case
            when action = 'refunded'
                then json_extract_string(properties, '$.transactions[*].amount')
        end as transactions,
        {{ json_texts('properties', paths) }} as amounts,
        {{ json_texts('properties', minor_paths) }} as minor_amounts
    from events
    where kind = 'order'

),

read_currencies as (

    select
        *,
        {{ currency_text('fields[3]') }} as currency_text,
        {{ amount_currency(
            "coalesce(nullif(amounts[1], ''), nullif(amounts[2], ''), "
            ~ "nullif(amounts[3], ''), nullif(amounts[4], ''))"
        ) }} as amount_currency,
        coalesce(
            {%- for place in range(1, 5) %}
            nullif(amounts[{{ place }}], ''),
            nullif(minor_amounts[{{ place }}], ''){{ ',' if not loop.last }}
            {%- endfor %}
        ) is not null
        or len(transactions) > 0 as states_amount
    from read_properties

),

state_currencies as (

    select
        *,
        case
            when not {{ is_word_for_nothing('currency_text', 'any') }}
                then nullif(currency_text, '')
        end as stated_currency
    from read_currencies

),

meet_codes as (

    select
        state_currencies.*,
        coalesce(stated_ways.currency, upper(state_currencies.stated_currency))
            as stated_code,
        case
            when
                state_currencies.stated_currency is null
                or not coalesce(amount_ways.is_shared, false)
                then coalesce(
                    amount_ways.currency, upper(state_currencies.amount_currency)
                )
        end as amount_code
    from state_currencies
    left join written_currencies as stated_ways
        on
            {{ written_currency('state_currencies.stated_currency') }}
            = stated_ways.written
    left join written_currencies as amount_ways
        on
            {{ written_currency('state_currencies.amount_currency') }}
            = amount_ways.written

),

-- an amount may say its currency; one that says another than the message is of none
name_currencies as (

    select
        *,
        case
            when stated_code <> amount_code then stated_code || ' / ' || amount_code
            else coalesce(stated_code, amount_code)
        end as currency
    from meet_codes

),

-- Stripe's objects are in minor units (https://docs.stripe.com/currencies), other
-- messages where they say so
read_amounts as (

    select
        name_currencies.*,
        order_ids.order_id,
        order_ids.is_known,
        order_ids.is_stated,
        -- what Shopify says of a refund is the payments that it takes back
        case
            when
                len(list_filter(
                    transactions,
                    lambda transaction: {{ amount('transaction') }} is null
                )) = 0
                then try_cast(
                    list_sum(list_transform(
                        transactions, lambda transaction: {{ amount('transaction') }}
                    )) as decimal(14, 2)
                )
        end as transactions_amount
        {%- for name in amounts %},
        coalesce(
            case
                when
                    minor_units.spelled is not null
                    or lower(fields[9]) in ('true', '1', 'yes')
                    or fields[10] in {{ stripe_objects }}
                    then {{ minor_amount(
                        'amounts[' ~ loop.index ~ ']', 'currencies.minor_digits'
                    ) }}
                else {{ amount('amounts[' ~ loop.index ~ ']') }}
            end,
            {{ minor_amount(
                'minor_amounts[' ~ loop.index ~ ']', 'currencies.minor_digits'
            ) }}
        ) as {{ name }}
        {%- endfor %}
    from name_currencies
    cross join run
    inner join order_ids on name_currencies.message_id = order_ids.message_id
    left join currencies
        on
            coalesce(name_currencies.currency, run.base_currency)
            = currencies.currency
    left join minor_units
        on {{ spelled('name_currencies.fields[8]') }} = minor_units.spelled

),

name_fields as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        fields[1] as stated_order_id,
        order_id,
        is_known,
        is_stated,
        coalesce(refund_amount, transactions_amount) as refund_amount,
        revenue,
        subtotal,
        total,
        coalesce(shipping, 0) as shipping_amount,
        coalesce(tax, 0) as tax_amount,
        coalesce(discount, 0) as discount_amount,
        nullif(fields[2], '') as coupon,
        currency,
        {{ known_name('fields[4]', 'any') }} as stated_store_id,
        nullif(fields[5], '') as affiliation,
        lower(nullif(fields[6], '')) as sales_channel,
        {{ known_name('fields[7]') }} as refund_id,
        {{ known_name('fields[11]') }} as cart_id,
        states_amount,
        tool,
        md5(cast(properties as varchar)) as content,
        {{ unread(unread_amounts + [(
            'refund_amount',
            joined_list('transactions', ' '),
            'coalesce(refund_amount, transactions_amount)',
        )]) }} as unread
    from read_amounts

),

-- without an id, the same from one browser within a day is a page that was reloaded
mark_reloads as (

    select
        *,
        case
            when order_id is null and action = 'completed'
                then coalesce(
                    {{ seconds_between(
                        'lag(occurred_at) over same_content', 'occurred_at'
                    ) }} <= 3600 * {{ var('order_reload_hours') }},
                    false
                )
            else false
        end as is_reload
    from name_fields
    window same_content as (
        partition by
            case when order_id is null and action = 'completed' then content end,
            coalesce(anonymous_id, user_id, message_id)
        order by occurred_at asc, message_id asc
    )

),

name_orders as (

    select
        *,
        coalesce(
            order_id,
            'message:' || last_value(
                case when not is_reload then message_id end ignore nulls
            ) over (
                partition by order_id is null and action = 'completed', content,
                    coalesce(anonymous_id, user_id, message_id)
                order by occurred_at asc, message_id asc
                rows between unbounded preceding and current row
            )
        ) as known_order_id
    from mark_reloads

),

state_revenue as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        known_order_id as order_id,
        stated_order_id,
        is_known,
        is_stated,
        coalesce(total, revenue + shipping_amount + tax_amount) as total_amount,
        cast(
            try_cast(
                coalesce(
                    case when action = 'refunded' then refund_amount end,
                    revenue,
                    subtotal,
                    total - shipping_amount - tax_amount
                ) as decimal(14, 2)
            ) as decimal(18, 2)
        ) as revenue_amount,
        states_amount,
        shipping_amount,
        tax_amount,
        discount_amount,
        coupon,
        currency,
        coalesce(
            stated_store_id,
            case when sales_channel = 'store' then affiliation end
        ) as store_id,
        cart_id,
        coalesce(refund_id, message_id) as refund_id,
        refund_id is not null as has_refund_id,
        tool,
        unread
    from name_orders

)

select * from state_revenue
