-- One row per possible send and rule by which the person is to be left in peace for a
-- while.
with

run as (

    select * from {{ ref('stg_run') }}

),

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

rules as (

    select * from {{ ref('rules') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

find_moments as (

    select
        profile_id,
        {{ stated_rule('restoration') }} as rule,
        evidence_message_id,
        cast(null as timestamp) as occurred_at,
        kind || ' ' || left(cast(opened_at as varchar), 16) as reason_detail
    from {{ ref('missteps') }}
    where is_open

    union all

    select
        profile_events.profile_id,
        {{ stated_rule('high_stakes') }} as rule,
        high_stakes.message_id as evidence_message_id,
        high_stakes.occurred_at,
        high_stakes.event || ' ' || left(cast(high_stakes.occurred_at as varchar), 16)
            as reason_detail
    from {{ ref('stg_high_stakes_events') }} as high_stakes
    inner join profile_events on high_stakes.message_id = profile_events.message_id

    union all

    select
        profile_events.profile_id,
        {{ stated_rule('post_purchase') }} as rule,
        orders.message_id as evidence_message_id,
        orders.ordered_at as occurred_at,
        'order ' || left(cast(orders.ordered_at as varchar), 16) as reason_detail
    from {{ ref('stg_orders') }} as orders
    inner join profile_events on orders.message_id = profile_events.message_id

),

newest_moments as (

    select
        find_moments.profile_id,
        find_moments.rule,
        find_moments.evidence_message_id,
        find_moments.reason_detail
    from find_moments
    inner join rules on find_moments.rule = rules.rule
    cross join run
    where
        find_moments.occurred_at is null
        or {{ add_seconds('find_moments.occurred_at', '3600 * rules.window_hours') }}
        > run.as_of
    qualify row_number() over (
        partition by find_moments.profile_id, find_moments.rule
        order by
            find_moments.occurred_at desc nulls last,
            find_moments.evidence_message_id desc nulls last
    ) = 1

),

find_blocks as (

    select
        possible_sends.send_id,
        newest_moments.rule,
        newest_moments.evidence_message_id,
        newest_moments.reason_detail
    from possible_sends
    inner join newest_moments on possible_sends.profile_id = newest_moments.profile_id

)

select * from find_blocks
