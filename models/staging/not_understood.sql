{%- set sources = {
    'stg_product_views': "'ignored'",
    'stg_cart_events': "'ignored'",
    'stg_checkout_events': "'ignored'",
    'stg_product_lines': "'ignored'",
    'stg_order_events': "'ignored'",
    'stg_service_events': "'ignored'",
    'stg_identify_calls': "'ignored'",
    'stg_consent_values': "'ignored'",
    'stg_consent_updates': "case when status = 'denied' then 'closed' else 'ignored' end",
} -%}
{%- set by_shape = "('email', 'phone', 'birthday', 'created_at', 'order')" -%}
-- One row per kind of value and value that arrived and was not understood. Values that
-- may be personal, and ids, are shown by their shape: a for a letter, 9 for a digit.
with

events as (

    select * from {{ ref('stg_events') }}

),

event_names as (

    select * from {{ ref('stg_event_names') }}
    where not is_known and (kind is not null or suggestion is not null)

),

order_events as (

    select * from {{ ref('stg_order_events') }}

),

refunds as (

    select * from {{ ref('stg_refunds') }}

),

orders as (

    select * from {{ ref('stg_orders') }}

),

amendments as (

    select * from {{ ref('stg_order_amendments') }}
    where excess_refund_amount > 0

),

message_events as (

    select * from {{ ref('stg_message_events') }}

),

exchange_rates as (

    select * from {{ ref('stg_exchange_rates') }}

),

-- a purpose that a journey has is known
journeys as (

    select * from {{ ref('stg_journeys') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

spellings as (

    select * from {{ ref('spellings') }}

),

-- the refund by which an order gave back more than it came to
excess_refunds as (

    select
        refunds.message_id,
        amendments.excess_refund_amount
    from refunds
    inner join amendments on refunds.order_id = amendments.order_id
    qualify row_number() over (
        partition by refunds.order_id
        order by refunds.refunded_at desc, refunds.message_id desc
    ) = 1

),

-- money that could not be exchanged, and what could not for want of room
list_amounts as (

    select
        orders.message_id,
        orders.currency,
        orders.revenue_amount as amount
    from orders
    where orders.base_revenue_amount is null
    union all
    select
        refunds.message_id,
        refunds.currency,
        refunds.refund_amount as amount
    from refunds
    where refunds.base_refund_amount is null or refunds.order_refund_amount is null
    union all
    select
        order_events.message_id,
        order_events.currency,
        order_events.revenue_amount as amount
    from order_events
    left join exchange_rates on order_events.currency = exchange_rates.currency
    where
        order_events.action = 'updated'
        and order_events.currency is not null
        and exchange_rates.rate is null

),

list_values as (

    {%- for model, effect in sources.items() %}
    select
        message_id,
        item.kind,
        item.value,
        {{ effect }} as effect
    from (
        select
            *,
            {{ unnest_items('unread') }} as item
        from {{ ref(model) }}
        where unread is not null
    ) as {{ model }}
    {%- if model == 'stg_consent_updates' %}
    where item.kind <> 'consent_purpose' or {{ spelled('item.value') }} not in (
        select {{ spelled('journeys.purpose') }} from journeys
        where journeys.purpose is not null
    )
    {%- endif %}
    union all
    {%- endfor %}
    select
        events.message_id,
        'event_name' as kind,
        event_names.event as value,
        case when event_names.kind is null then 'ignored' else 'closed' end as effect
    from events
    inner join event_names on events.event = event_names.event
    where events.type = 'track'
    union all
    select
        message_id,
        'channel' as kind,
        unknown_channel as value,
        'ignored' as effect
    from message_events
    where unknown_channel is not null
    union all
    select
        message_id,
        'order_id' as kind,
        coalesce(nullif(stated_order_id, ''), '(none)') as value,
        'ignored' as effect
    from order_events
    where
        not is_known
        and (
            action = 'completed'
            or not is_stated
            and (action <> 'refunded' or coalesce(stated_order_id, '') <> '')
        )
    union all
    select
        message_id,
        'order' as kind,
        stated_order_id as value,
        'ignored' as effect
    from order_events
    where not is_known and is_stated and action <> 'completed'
    union all
    select
        message_id,
        'revenue' as kind,
        '(none)' as value,
        'ignored' as effect
    from order_events
    where action = 'completed' and not states_amount
    union all
    select
        message_id,
        'refund_amount' as kind,
        '(none)' as value,
        'ignored' as effect
    from refunds
    where is_amount_unknown
    union all
    select
        message_id,
        'refund_amount' as kind,
        cast(excess_refund_amount as varchar) || ' beyond the order' as value,
        'set aside' as effect
    from excess_refunds
    union all
    select
        message_id,
        'refund_id' as kind,
        cast(refund_amount as varchar) || ' ' || currency || ' by two tools' as value,
        'ignored' as effect
    from refunds
    where is_perhaps_retold
    union all
    select
        list_amounts.message_id,
        case
            when exchange_rates.rate is not null then 'amount'
            when {{ is_currency('list_amounts.currency') }} then 'exchange_rate'
            else 'currency'
        end as kind,
        case
            when exchange_rates.rate is null then list_amounts.currency
            else cast(list_amounts.amount as varchar) || ' ' || list_amounts.currency
        end as value,
        'set aside' as effect
    from list_amounts
    left join exchange_rates on list_amounts.currency = exchange_rates.currency
    union all
    select
        message_id,
        'products' as kind,
        {{ json_text('properties', '$.products') }} as value,
        'ignored' as effect
    from events
    where
        kind in ('order', 'cart', 'checkout')
        and json_type(properties, '$.products') not in ('ARRAY', 'NULL')

),

hide_persons as (

    select
        events.message_id,
        events.event,
        events.occurred_at,
        list_values.kind,
        list_values.effect,
        case
            when
                list_values.kind in {{ by_shape }}
                or list_values.value like '%@%'
                or left(list_values.value, 1) in ('{', '[')
                or (length(list_values.value) > 40 and list_values.kind <> 'event_name')
                then left(
                    regexp_replace(
                        regexp_replace(list_values.value, '\pL', 'a', 'g'),
                        '\pN', '9', 'g'
                    ),
                    40
                )
            else left(list_values.value, 100)
        end as value
    from list_values
    inner join events on list_values.message_id = events.message_id

),

count_values as (

    select
        kind,
        value,
        coalesce(min(event), '(none)') as event,
        count(distinct message_id) as count,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        -- closed, where it closed anything
        min(effect) as effect
    from hide_persons
    group by kind, value

),

find_nearest as (

    select
        count_values.kind,
        count_values.value,
        min_by(
            spellings.meaning,
            (
                levenshtein(
                    {{ spelled('count_values.value') }},
                    {{ spelled('spellings.spelling') }}
                ),
                spellings.spelling
            )
        ) as meaning
    from count_values
    inner join spellings
        on
            count_values.kind = spellings.field
            and levenshtein(
                {{ spelled('count_values.value') }},
                {{ spelled('spellings.spelling') }}
            ) <= 2
    group by count_values.kind, count_values.value

),

suggest as (

    select
        count_values.kind,
        count_values.value,
        count_values.event,
        count_values.count,
        count_values.first_seen_at,
        count_values.last_seen_at,
        case count_values.kind
            when 'event_name' then event_names.suggestion
            when 'exchange_rate'
                then 'a row ' || count_values.value || ',' || run.base_currency
                    || ' in exchange_rates.csv'
            when 'currency' then 'a code of ISO 4217, such as ' || run.base_currency
            when 'order_id' then 'the id under which the shop knows the order'
            when 'refund_id' then 'the same refund_id in both tools'
            when 'order' then 'the id that Order Completed states'
            when 'amount' then 'an amount below a million million'
            else find_nearest.meaning
        end as suggestion,
        count_values.effect
    from count_values
    cross join run
    left join find_nearest
        on
            count_values.kind = find_nearest.kind
            and count_values.value = find_nearest.value
    left join event_names
        on
            count_values.kind = 'event_name'
            and count_values.value = event_names.event

)

select * from suggest
