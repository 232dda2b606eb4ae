-- One row per marketing message that reached out to a profile within the window of the
-- frequency cap: our own sends and those of other tools. What waits to be delivered has
-- reached nobody yet, and is judged before it does.
with

run as (

    select * from {{ ref('stg_run') }}

),

sends as (

    select * from {{ ref('stg_sends') }}
    where state in ('inflight', 'sent', 'unknown') and message_class = 'marketing'

),

enrollments as (

    select * from {{ ref('enrollments') }}

),

message_events as (

    select * from {{ ref('stg_message_events') }}
    where
        interaction in ('sent', 'delivered')
        and send_id is null
        and message_class = 'marketing'

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}
    where counts_to_frequency_cap

),

-- without an id of its own, the first that was sent is the first that arrived
name_messages as (

    select
        profile_events.profile_id,
        message_events.channel,
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
        sends.send_id as contact_id,
        sends.as_of as contacted_at
    from sends
    inner join enrollments on sends.enrollment_id = enrollments.enrollment_id

    union all

    select
        profile_id,
        channel,
        contact_id,
        occurred_at as contacted_at
    from name_messages

),

keep_window as (

    select
        collect_contacts.profile_id,
        collect_contacts.channel,
        collect_contacts.contact_id,
        max(collect_contacts.contacted_at) as contacted_at
    from collect_contacts
    inner join channel_rules on collect_contacts.channel = channel_rules.channel
    cross join run
    where
        collect_contacts.contacted_at > {{ add_seconds(
            'run.as_of', '-3600 * ' ~ decision_rule('frequency_cap', 'window_hours')
        ) }}
    group by 1, 2, 3

)

select * from keep_window
