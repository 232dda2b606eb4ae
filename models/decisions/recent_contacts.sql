-- One row per message that reached out to a profile and frequency cap that counts it
-- still: our own sends and those of other tools. What waits to be delivered has reached
-- nobody yet, and is judged before it does; what may have gone out counts.
with

run as (

    select * from {{ ref('stg_run') }}

),

sends as (

    select * from {{ ref('stg_sends') }}
    where state in ('inflight', 'sent', 'unknown') or is_in_doubt

),

enrollments as (

    select * from {{ ref('enrollments') }}

),

message_events as (

    select * from {{ ref('stg_message_events') }}
    where
        interaction in ('sent', 'delivered')
        and send_id is null

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

frequency_caps as (

    select * from {{ ref('frequency_caps') }}

),

-- without an id of its own, the first that was sent is the first that arrived
name_messages as (

    select
        profile_events.profile_id,
        message_events.channel,
        message_events.message_class,
        message_events.occurred_at,
        coalesce(
            message_events.email_id,
            {{ surrogate_key([
                'message_events.campaign_id',
                'message_events.campaign_name',
                'row_number() over same_kind',
            ]) }}
        ) as contact_id
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id
    window same_kind as (
        partition by
            profile_events.profile_id,
            message_events.channel,
            message_events.message_class,
            message_events.campaign_id,
            message_events.campaign_name,
            message_events.interaction
        order by message_events.occurred_at asc, message_events.message_id asc
    )

),

collect_contacts as (

    select
        enrollments.profile_id,
        sends.channel,
        sends.message_class,
        sends.send_id as contact_id,
        sends.as_of as contacted_at
    from sends
    inner join enrollments on sends.enrollment_id = enrollments.enrollment_id

    union all

    select
        profile_id,
        channel,
        message_class,
        contact_id,
        occurred_at as contacted_at
    from name_messages

),

distinct_contacts as (

    select
        profile_id,
        channel,
        message_class,
        contact_id,
        max(contacted_at) as contacted_at
    from collect_contacts
    group by 1, 2, 3, 4

),

-- a cap of no channel counts those whose messages interrupt
keep_windows as (

    select
        contacts.profile_id,
        caps.channel as cap_channel,
        caps.message_class as cap_class,
        caps.window_hours,
        caps.limit_value,
        contacts.channel,
        contacts.contact_id,
        contacts.contacted_at
    from distinct_contacts as contacts
    inner join channel_rules on contacts.channel = channel_rules.channel
    inner join frequency_caps as caps
        on
            contacts.channel = coalesce(
                caps.channel,
                if(channel_rules.counts_to_frequency_cap, contacts.channel, null)
            )
            and contacts.message_class
            = coalesce(caps.message_class, contacts.message_class)
    cross join run
    where
        contacts.contacted_at
        > {{ add_seconds('run.as_of', '-3600 * caps.window_hours') }}

)

select * from keep_windows
