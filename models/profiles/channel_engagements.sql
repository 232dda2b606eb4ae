-- One row per profile and channel on which it was sent something: what it did with it.
-- What machines opened counts as delivered, never as opened.
with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

reporting_channels as (

    select distinct channel
    from {{ ref('stg_message_events') }}
    where interaction = 'delivered'

),

gather_messages as (

    select
        profile_events.profile_id,
        message_events.channel,
        coalesce(
            'send:' || message_events.send_id,
            'mail:' || message_events.email_id,
            'campaign:' || message_events.campaign_id || ':'
            || cast(cast(profile_events.occurred_at as date) as varchar),
            'message:' || message_events.message_id
        ) as message,
        min(profile_events.occurred_at) as sent_at,
        max(case when message_events.interaction = 'sent' then 1 else 0 end) as is_sent,
        max(
            case
                when message_events.interaction in ('delivered', 'opened', 'clicked')
                    then 1
                else 0
            end
        ) as is_confirmed,
        max(
            case
                when message_events.interaction in ('bounced', 'failed') then 1
                else 0
            end
        ) as is_failed,
        max(
            case
                when
                    message_events.interaction = 'opened'
                    and not message_events.is_machine
                    then profile_events.occurred_at
            end
        ) as opened_at,
        max(
            case
                when message_events.interaction = 'clicked'
                    then profile_events.occurred_at
            end
        ) as clicked_at
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id
    where message_events.channel is not null
    group by 1, 2, 3

),

count_messages as (

    select
        gather_messages.profile_id,
        gather_messages.channel,
        count(*) as sent_count,
        count(
            case
                when
                    gather_messages.is_confirmed = 1
                    or (
                        gather_messages.is_sent = 1
                        and gather_messages.is_failed = 0
                        and reporting_channels.channel is null
                    )
                    then 1
            end
        ) as delivered_count,
        count(gather_messages.opened_at) as opened_count,
        count(gather_messages.clicked_at) as engaged_count,
        max(gather_messages.sent_at) as last_sent_at,
        max(gather_messages.opened_at) as last_opened_at,
        max(gather_messages.clicked_at) as last_engaged_at
    from gather_messages
    left join reporting_channels
        on gather_messages.channel = reporting_channels.channel
    group by gather_messages.profile_id, gather_messages.channel

)

select * from count_messages
