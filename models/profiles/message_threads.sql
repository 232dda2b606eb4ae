-- One row per thing that happened to a message to a customer: whose it is, and which
-- message.
{%- set arrives = "interaction in ('sent', 'delivered')" %}
with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

rules as (

    select * from {{ ref('reach_rules') }}

),

name_messages as (

    select
        message_events.message_id,
        profile_events.profile_id,
        message_events.channel,
        message_events.occurred_at,
        message_events.interaction,
        message_events.send_id,
        coalesce(
            message_events.email_id,
            message_events.campaign_id,
            message_events.campaign_name
        ) as message_name
    from message_events
    inner join profile_events
        on message_events.message_id = profile_events.message_id
    where message_events.channel is not null

),

look_back as (

    select
        *,
        max(case when {{ arrives }} then occurred_at end) over (
            partition by profile_id, channel, message_name
            order by occurred_at asc, message_id asc
            rows between unbounded preceding and 1 preceding
        ) as last_arrived_at
    from name_messages

),

-- a name that arrives again much later is another message; an answer is to the one
-- that arrived last, however long ago
find_starts as (

    select
        look_back.*,
        max(
            case
                when
                    {{ arrives }}
                    and (
                        last_arrived_at is null
                        or occurred_at > {{ add_seconds(
                            'last_arrived_at', '3600 * rules.message_gap_hours'
                        ) }}
                    )
                    then occurred_at
            end
        ) over (
            partition by profile_id, channel, message_name
            order by occurred_at asc, message_id asc
            rows between unbounded preceding and current row
        ) as arrived_at
    from look_back
    cross join rules

),

name_threads as (

    select
        message_id,
        profile_id,
        send_id,
        case
            when send_id is not null
                then {{ surrogate_key(["'send'", 'send_id']) }}
            else {{ surrogate_key([
                "'message'",
                'profile_id',
                'channel',
                'message_name',
                'cast(coalesce(arrived_at, occurred_at) as date)',
            ]) }}
        end as thread_id
    from find_starts

)

select * from name_threads
