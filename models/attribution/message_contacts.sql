-- One row per thing that happened to a message, with how deeply the person met it.
{{ config(materialized='view') }}

with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

-- ours (with a send_id) and those from elsewhere leave through different tools
find_tools_that_report_delivery as (

    select distinct
        channel,
        send_id is not null as is_ours
    from message_events
    where interaction = 'delivered'

),

measure_depth as (

    select
        message_events.message_id,
        profile_events.profile_id,
        message_events.channel,
        message_events.campaign_id,
        message_events.campaign_name,
        message_events.send_id,
        message_events.step,
        message_events.occurred_at,
        message_events.interaction,
        case
            when message_events.send_id is not null
                then {{ surrogate_key(["'send'", 'message_events.send_id']) }}
            else {{ surrogate_key([
                "'message'",
                'profile_events.profile_id',
                'message_events.channel',
                'coalesce(message_events.email_id, message_events.campaign_id, '
                ~ 'message_events.campaign_name)',
                'cast(message_events.occurred_at as date)',
            ]) }}
        end as touchpoint_id,
        case
            when message_events.is_machine then 0
            when message_events.interaction = 'clicked' then 3
            when message_events.interaction = 'opened' then 2
            when
                message_events.interaction in (
                    'delivered', 'complained', 'unsubscribed'
                ) then 1
            when
                message_events.interaction = 'sent'
                and find_tools_that_report_delivery.channel is null then 1
            else 0
        end as depth
    from message_events
    inner join profile_events
        on message_events.message_id = profile_events.message_id
    left join find_tools_that_report_delivery
        on
            message_events.channel = find_tools_that_report_delivery.channel
            and (message_events.send_id is not null)
            = find_tools_that_report_delivery.is_ours
    where message_events.channel is not null

)

select * from measure_depth
