-- One row per message about an order: the order that it is about. An id that is spelled
-- otherwise, or another id of the same order, leads to it; where it may be one of
-- several orders, it leads to none.
with

events as (

    select * from {{ ref('stg_events') }}
    where kind = 'order'

),

id_spellings as (

    select
        spelled,
        preference,
        false as is_document
    from {{ spellings('properties') }}
    where meaning = 'order_id'
    union all
    select
        spelled,
        preference,
        true as is_document
    from {{ spellings('order_document') }}

),

list_id_keys as (

    select
        key_lists.keys,
        {{ json_pointer('key_lists.found_key') }} as place,
        id_spellings.spelled as name,
        id_spellings.preference,
        id_spellings.is_document
    from (
        select
            keys,
            {{ unnest_items('keys') }} as found_key
        from (
            select distinct json_keys(properties) as keys
            from events
        ) as distinct_keys
    ) as key_lists
    inner join id_spellings
        on {{ spelled('key_lists.found_key') }} = id_spellings.spelled

),

state_ids as (

    select
        events.message_id,
        list_id_keys.name,
        list_id_keys.preference,
        list_id_keys.is_document,
        {{ json_text_at('events.properties', 'list_id_keys.place') }} as stated_id
    from events
    inner join list_id_keys on json_keys(events.properties) = list_id_keys.keys
    -- the id of a refund's own document is no order's
    where not list_id_keys.is_document or events.action = 'completed'

),

read_ids as (

    select
        message_id,
        name,
        preference,
        is_document,
        {{ order_id_in('stated_id') }} as order_id
    from state_ids

),

-- an id that stands under two names is known by its own, for `order_id` repeats it
name_all as (

    select
        message_id,
        {{ order_key('order_id') }} as order_key,
        min(order_id) as order_id,
        min(preference) as preference,
        max_by(name, preference) as name,
        bool_and(is_document) as is_document
    from read_ids
    where order_id is not null
    group by 1, 2

),

-- the shop's own document has its id as `id`; beside an `order_id`, that is another's
name_ids as (

    select name_all.*
    from name_all
    left join name_all as stated
        on
            name_all.message_id = stated.message_id
            and name_all.is_document
            and stated.name = 'orderid'
    where stated.message_id is null

),

first_ids as (

    select * from name_ids
    qualify row_number() over (
        partition by message_id order by preference asc, order_key asc
    ) = 1

),

describe_messages as (

    select
        events.message_id,
        events.action,
        events.occurred_at,
        events.user_id,
        events.anonymous_id,
        first_ids.order_key,
        first_ids.order_id,
        list_filter(
            [
                {{ amount(json_text('events.properties', '$.revenue')) }},
                {{ amount(json_text('events.properties', '$.total')) }}
            ],
            lambda amount: amount is not null
        ) as amounts
    from events
    left join first_ids on events.message_id = first_ids.message_id

),

-- an id under which several persons bought is a sample's or a broken shop's
find_shared as (

    select order_key
    from describe_messages
    where action = 'completed' and order_key is not null
    group by order_key
    having
        count(distinct user_id) > {{ var('order_id_max_buyers') }}
        or (
            count(distinct anonymous_id) > {{ var('order_id_max_buyers') }}
            and count(distinct amounts) > {{ var('order_id_max_buyers') }}
        )

),

completions as (

    select describe_messages.*
    from describe_messages
    left join find_shared on describe_messages.order_key = find_shared.order_key
    where
        describe_messages.action = 'completed'
        and describe_messages.order_key is not null
        and find_shared.order_key is null

),

name_orders as (

    select distinct
        completions.order_key,
        name_ids.name,
        name_ids.order_key as other_key
    from completions
    inner join name_ids on completions.message_id = name_ids.message_id

),

-- one order told under two of its ids, by a browser and a server: one names both, and
-- they agree in the amount at about the time
find_retold as (

    select
        others.order_key as retold_key,
        min(name_orders.order_key) as order_key
    from completions as others
    inner join name_orders
        on
            others.order_key = name_orders.other_key
            and others.order_key <> name_orders.order_key
    inner join completions as orders
        on
            name_orders.order_key = orders.order_key
            and list_has_any(others.amounts, orders.amounts)
            and abs({{ seconds_between('orders.occurred_at', 'others.occurred_at') }})
            <= 3600 * {{ var('order_reload_hours') }}
    left join name_orders as own_names
        on
            others.order_key = own_names.order_key
            and own_names.other_key <> own_names.order_key
    where own_names.order_key is null
    group by others.order_key
    having count(distinct name_orders.order_key) = 1

),

join_retold as (

    select
        completions.message_id,
        completions.occurred_at,
        completions.user_id,
        completions.anonymous_id,
        completions.order_id,
        completions.order_key as own_key,
        coalesce(find_retold.order_key, completions.order_key) as order_key
    from completions
    left join find_retold on completions.order_key = find_retold.retold_key

),

-- an order goes by its id as it was told first
name_orders_by_first as (

    select * from join_retold
    where own_key = order_key
    qualify row_number() over (
        partition by order_key order by occurred_at asc, message_id asc
    ) = 1

),

-- an id that several orders have tells none of them
name_all_ids as (

    select
        join_retold.order_key,
        name_ids.name,
        name_ids.order_key as other_key,
        bool_or(name_ids.order_key = join_retold.own_key) as is_first
    from join_retold
    inner join name_ids on join_retold.message_id = name_ids.message_id
    group by 1, 2, 3
    qualify count(*) over (partition by name_ids.name, name_ids.order_key) = 1

),

later_ids as (

    select
        name_ids.*,
        messages.user_id,
        messages.anonymous_id
    from name_ids
    inner join describe_messages as messages
        on name_ids.message_id = messages.message_id
    where messages.action <> 'completed'

),

-- ids that differ in signs, case and leading zeros are one if the person is
list_buyers as (

    select distinct
        {{ unnest_items('[join_retold.user_id, join_retold.anonymous_id]') }} as buyer,
        name_all_ids.order_key,
        {{ loose_order_key('name_all_ids.other_key') }} as loose_key
    from name_all_ids
    inner join join_retold on name_all_ids.order_key = join_retold.order_key

),

list_persons as (

    select
        message_id,
        name,
        order_key as stated_key,
        preference,
        {{ unnest_items('[user_id, anonymous_id]') }} as buyer,
        {{ loose_order_key('order_key') }} as loose_key
    from later_ids

),

-- the same id under the same name; the id of an order, whatever its name; another id of
-- one; an id that is alike
match_ids as (

    select
        ids.message_id,
        ids.name,
        ids.order_key as stated_key,
        ids.preference,
        orders.order_key,
        case
            when orders.name = ids.name then 1
            when orders.is_first then 2
            else 3
        end as likeness
    from later_ids as ids
    inner join name_all_ids as orders on ids.order_key = orders.other_key
    union all
    select
        list_persons.message_id,
        list_persons.name,
        list_persons.stated_key,
        list_persons.preference,
        list_buyers.order_key,
        4 as likeness
    from list_persons
    inner join list_buyers
        on
            list_persons.buyer = list_buyers.buyer
            and list_persons.loose_key = list_buyers.loose_key
    where list_persons.loose_key <> ''

),

-- `order_id` and `transaction_id` may be any id of an order; one of another name is not
-- that of an order which states another under this name
rank_matches as (

    select
        match_ids.message_id,
        match_ids.order_key,
        rank() over (
            partition by match_ids.message_id
            order by
                match_ids.likeness = 4 asc,
                match_ids.preference asc,
                match_ids.likeness asc
        ) as place
    from match_ids
    left join name_all_ids as contradictions
        on
            match_ids.order_key = contradictions.order_key
            and match_ids.name = contradictions.name
            and {{ loose_order_key('match_ids.stated_key') }}
            <> {{ loose_order_key('contradictions.other_key') }}
            and match_ids.name not in ('orderid', 'transactionid')
            and match_ids.likeness > 1
    where contradictions.order_key is null

),

choose_orders as (

    select
        message_id,
        min(order_key) as order_key
    from rank_matches
    where place = 1
    group by message_id
    having count(distinct order_key) = 1
    union all
    select
        message_id,
        order_key
    from join_retold

),

lead_to_orders as (

    select
        messages.message_id,
        coalesce(
            orders.order_id,
            -- no order's, and yet the same one of several messages
            case
                when messages.action <> 'completed'
                    then 'unknown:' || messages.order_key
            end
        ) as order_id,
        orders.order_id is not null as is_known,
        messages.order_key is not null as is_stated
    from describe_messages as messages
    left join choose_orders on messages.message_id = choose_orders.message_id
    left join name_orders_by_first as orders
        on choose_orders.order_key = orders.order_key

)

select * from lead_to_orders
