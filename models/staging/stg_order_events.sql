-- One row per message about an order: completed, updated, refunded, cancelled.
with

events as (

    select * from {{ ref('stg_events') }}

),

no_order_ids as (

    select * from {{ spellings('no_order_id') }}

),

read_properties as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        properties,
        {{ json_texts('properties', [
            '$.order_id',
            '$.revenue',
            '$.subtotal',
            '$.total',
            '$.shipping',
            '$.tax',
            '$.discount',
            '$.coupon',
            '$.currency',
            '$.store_id',
            '$.affiliation',
            '$.channel',
            '$.refund_id',
        ]) }} as fields
    from events
    where kind = 'order'

),

-- an id is somebody's own: no word for nothing, no zeros, no template, no object
name_fields as (

    select
        read_properties.message_id,
        read_properties.anonymous_id,
        read_properties.user_id,
        read_properties.occurred_at,
        read_properties.action,
        fields[1] as stated_order_id,
        case
            when
                no_order_ids.spelled is null
                and replace({{ spelled('fields[1]') }}, '0', '') <> ''
                and trim(fields[1]) <> '-1'
                and fields[1] not like '%' || '{' || '%'
                and left(fields[1], 1) <> '['
                then trim(fields[1])
        end as order_id,
        {{ amount('fields[2]') }} as revenue,
        {{ amount('fields[3]') }} as subtotal,
        {{ amount('fields[4]') }} as total,
        coalesce({{ amount('fields[5]') }}, 0) as shipping_amount,
        coalesce({{ amount('fields[6]') }}, 0) as tax_amount,
        coalesce({{ amount('fields[7]') }}, 0) as discount_amount,
        nullif(fields[8], '') as coupon,
        upper(nullif(trim(fields[9]), '')) as currency,
        nullif(fields[10], '') as stated_store_id,
        nullif(fields[11], '') as affiliation,
        lower(nullif(fields[12], '')) as sales_channel,
        case
            when
                no_refund_ids.spelled is null
                and replace({{ spelled('fields[13]') }}, '0', '') <> ''
                and fields[13] not like '%' || '{' || '%'
                and left(fields[13], 1) <> '['
                then trim(fields[13])
        end as refund_id,
        coalesce(nullif(fields[2], ''), nullif(fields[3], ''), nullif(fields[4], ''))
            is not null as states_amount,
        md5(cast(read_properties.properties as varchar)) as content,
        {{ unread([
            ('revenue', 'fields[2]', amount('fields[2]')),
            ('subtotal', 'fields[3]', amount('fields[3]')),
            ('total', 'fields[4]', amount('fields[4]')),
            ('shipping', 'fields[5]', amount('fields[5]')),
            ('tax', 'fields[6]', amount('fields[6]')),
            ('discount', 'fields[7]', amount('fields[7]')),
        ]) }} as unread
    from read_properties
    left join no_order_ids
        on {{ spelled('fields[1]') }} = no_order_ids.spelled
    left join no_order_ids as no_refund_ids
        on {{ spelled('fields[13]') }} = no_refund_ids.spelled

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
            coalesce(anonymous_id, user_id)
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
                    coalesce(anonymous_id, user_id)
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
        order_id is not null as has_order_id,
        cast(
            try_cast(
                coalesce(revenue, subtotal, total - shipping_amount - tax_amount)
                as decimal(14, 2)
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
        coalesce(refund_id, message_id) as refund_id,
        unread
    from name_orders

)

select * from state_revenue
