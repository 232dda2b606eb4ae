-- One row per message that reached out to a profile within the window of the frequency
-- cap: our own sends and those of other tools.
with

run as (

    select * from {{ ref('stg_run') }}

),

sends as (

    select * from {{ ref('stg_sends') }}
    where state in ('pending', 'inflight', 'sent', 'unknown')

),

enrollments as (

    select * from {{ ref('enrollments') }}

),

message_events as (

    select * from {{ ref('stg_message_events') }}
    where interaction in ('sent', 'delivered') and send_id is null

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}
    where counts_to_frequency_cap

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
        profile_events.profile_id,
        message_events.channel,
        coalesce(
            message_events.email_id,
            message_events.campaign_id,
            message_events.message_id
        ) as contact_id,
        message_events.occurred_at as contacted_at
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id

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
