-- One row per profile and channel that reported back: the newest problem and success.
with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

find_newest as (

    select
        profile_events.profile_id,
        message_events.channel,
        max_by(
            message_events.interaction,
            (profile_events.occurred_at, message_events.message_id)
        ) filter (
            where message_events.interaction in ('bounced', 'failed', 'complained')
        ) as problem,
        max(
            case
                when message_events.interaction in ('bounced', 'failed', 'complained')
                    then profile_events.occurred_at
            end
        ) as problem_at,
        max(
            case
                when
                    message_events.interaction in ('delivered', 'clicked')
                    then profile_events.occurred_at
            end
        ) as success_at
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id
    where message_events.channel is not null
    group by profile_events.profile_id, message_events.channel

)

select * from find_newest
where problem is not null
