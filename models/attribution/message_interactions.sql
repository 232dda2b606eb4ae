-- One row per thing that happened to a message, with how deeply the person met it.
{{ config(materialized='view') }}

with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

threads as (

    select * from {{ ref('message_threads') }}

),

-- ours and those from elsewhere leave through different tools
find_tools_that_report_delivery as (

    select distinct
        message_events.channel,
        threads.send_id is not null as is_ours
    from message_events
    inner join threads on message_events.message_id = threads.message_id
    where message_events.interaction = 'delivered'

),

measure_depth as (

    select
        message_events.message_id,
        threads.profile_id,
        message_events.channel,
        message_events.campaign_id,
        message_events.campaign_name,
        threads.send_id,
        message_events.step,
        message_events.occurred_at,
        message_events.interaction,
        threads.thread_id as touchpoint_id,
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
    inner join threads on message_events.message_id = threads.message_id
    left join find_tools_that_report_delivery
        on
            message_events.channel = find_tools_that_report_delivery.channel
            and (threads.send_id is not null)
            = find_tools_that_report_delivery.is_ours

)

select * from measure_depth
