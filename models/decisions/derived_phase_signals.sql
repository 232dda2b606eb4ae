-- One row per profile, signal and message that sums up several events: the first sight
-- of a person, a session, active consideration, a misstep and its end.
with

profile_events as (

    select * from {{ ref('profile_events') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

identifier_set_members as (

    select * from {{ ref('identifier_set_members') }}

),

message_identifier_sets as (

    select * from {{ ref('message_identifier_sets') }}

),

sessions as (

    select * from {{ ref('sessions') }}
    where not is_store

),

missteps as (

    select * from {{ ref('missteps') }}

),

find_first_messages as (

    select
        profile_id,
        min({{ make_struct({
            'occurred_at': 'occurred_at', 'message_id': 'message_id'
        }) }}) as first_message
    from profile_events
    group by profile_id

),

-- an address that a limit or a denial keeps apart is named in others' messages only
find_first_mentions as (

    select
        identity_map.profile_id,
        min({{ make_struct({
            'occurred_at': 'message_identifier_sets.occurred_at',
            'message_id': 'message_identifier_sets.message_id',
        }) }}) as first_message
    from identity_map
    inner join identifier_set_members
        on
            identity_map.identifier_type = identifier_set_members.identifier_type
            and identity_map.identifier = identifier_set_members.identifier
    inner join message_identifier_sets
        on
            identifier_set_members.identifier_set_id
            = message_identifier_sets.identifier_set_id
    left join find_first_messages
        on identity_map.profile_id = find_first_messages.profile_id
    where find_first_messages.profile_id is null
    group by identity_map.profile_id

),

count_earlier_orders as (

    select
        *,
        sum(order_count) over (
            partition by profile_id
            order by started_at asc, session_id asc
        ) as order_count_so_far
    from sessions

),

number_fruitless_sessions as (

    select
        *,
        row_number() over (
            partition by profile_id, order_count_so_far
            order by started_at asc, session_id asc
        ) as session_number
    from count_earlier_orders
    where product_view_count > 0 and order_count = 0

),

collect_signals as (

    select
        profile_id,
        'seen' as signal,
        first_message.message_id,
        first_message.occurred_at
    from find_first_messages

    union all

    select
        profile_id,
        'seen' as signal,
        first_message.message_id,
        first_message.occurred_at
    from find_first_mentions

    union all

    select
        sessions.profile_id,
        'engaged' as signal,
        sessions.first_message_id as message_id,
        sessions.started_at as occurred_at
    from sessions
    inner join find_first_messages
        on sessions.profile_id = find_first_messages.profile_id
    -- the visit that makes us know a person is no answer to anything yet
    where sessions.started_at > find_first_messages.first_message.occurred_at

    union all

    select
        profile_id,
        'considered' as signal,
        last_message_id as message_id,
        ended_at as occurred_at
    from number_fruitless_sessions
    where
        max_category_views >= {{ phase_rule('category_views') }}
        or session_number % {{ phase_rule('sessions_without_order') }} = 0

    union all

    select
        profile_id,
        'misstep_opened' as signal,
        evidence_message_id as message_id,
        opened_at as occurred_at
    from missteps

    union all

    select
        profile_id,
        'misstep_resolved' as signal,
        coalesce(resolved_message_id, evidence_message_id) as message_id,
        resolved_at as occurred_at
    from missteps
    where resolved_at is not null

)

select * from collect_signals
