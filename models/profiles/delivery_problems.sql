-- One row per profile and channel that reported back: what went wrong on it and when
-- something last arrived.
{%- set success = "interaction in ('delivered', 'clicked')" %}
{%- set failure = "interaction in ('bounced', 'failed')" %}
with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

date_reports as (

    select
        profile_events.profile_id,
        message_events.channel,
        message_events.message_id,
        message_events.interaction,
        message_events.is_temporary,
        profile_events.occurred_at,
        max(
            case when message_events.{{ success }} then profile_events.occurred_at end
        ) over (
            partition by profile_events.profile_id, message_events.channel
        ) as success_at
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id
    where message_events.channel is not null

),

summarise_reports as (

    select
        profile_id,
        channel,
        max(case when interaction = 'complained' then occurred_at end)
            as complained_at,
        max(case when interaction = 'unsubscribed' then occurred_at end)
            as unsubscribed_at,
        max_by(interaction, (occurred_at, message_id))
            filter (where {{ failure }} and not is_temporary) as failure,
        max(case when {{ failure }} and not is_temporary then occurred_at end)
            as failed_at,
        count(
            case
                when
                    {{ failure }}
                    and is_temporary
                    and (success_at is null or occurred_at > success_at)
                    then 1
            end
        ) as temporary_failure_count,
        max(case when {{ failure }} and is_temporary then occurred_at end)
            as temporarily_failed_at,
        max(success_at) as success_at
    from date_reports
    group by profile_id, channel

)

select * from summarise_reports
