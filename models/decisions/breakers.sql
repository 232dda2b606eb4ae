-- One row per breaker of a channel: what it sees in its window, and whether it warns or
-- stops the channel. The window moves on, and with it the breaker closes again.
with

run as (

    select * from {{ ref('stg_run') }}

),

channel_breakers as (

    select * from {{ ref('channel_breakers') }}

),

message_events as (

    select
        channel,
        interaction,
        effective_at,
        coalesce(send_id, email_id, message_id) as contact_id
    from {{ ref('stg_message_events') }}
    where
        interaction in (
            'sent', 'delivered', 'bounced', 'failed', 'complained', 'unsubscribed'
        )

),

-- what is reported twice counts once
count_messages as (

    select
        channel_breakers.channel,
        channel_breakers.interaction,
        count(distinct case
            when message_events.interaction = channel_breakers.interaction
                then message_events.contact_id
        end) as event_count,
        greatest(
            count(distinct case
                when message_events.interaction = 'sent' then message_events.contact_id
            end),
            count(distinct case
                when message_events.interaction = 'delivered'
                    then message_events.contact_id
            end)
        ) as message_count
    from channel_breakers
    cross join run
    left join message_events
        on
            channel_breakers.channel = message_events.channel
            and run.as_of >= message_events.effective_at
            and {{ add_seconds('run.as_of', '-3600 * channel_breakers.window_hours') }}
            < message_events.effective_at
    group by all

),

measure_rates as (

    select
        channel_breakers.channel,
        channel_breakers.interaction,
        channel_breakers.window_hours,
        counts.event_count,
        counts.message_count,
        case
            when
                counts.event_count >= channel_breakers.minimum_count
                and counts.message_count >= channel_breakers.minimum_message_count
                then cast(counts.event_count as double) / counts.message_count
        end as rate,
        channel_breakers.warn_rate,
        channel_breakers.stop_rate
    from channel_breakers
    inner join count_messages as counts
        on
            channel_breakers.channel = counts.channel
            and channel_breakers.interaction = counts.interaction

),

judge_rates as (

    select
        *,
        case
            when rate >= stop_rate then 'stop'
            when rate >= warn_rate then 'warn'
            else 'closed'
        end as state,
        event_count || ' ' || interaction || ' of ' || message_count || ' in '
        || printf('%g', window_hours) || ' h' as reason_detail
    from measure_rates

)

select * from judge_rates
