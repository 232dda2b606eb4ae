-- One row per possible send to a person who had as many messages as a cap allows.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

recent_contacts as (

    select * from {{ ref('recent_contacts') }}

),

find_reached_caps as (

    select
        possible_sends.send_id,
        contacts.window_hours,
        max(contacts.contact_id) as evidence_message_id,
        count(*) || ' in ' || printf('%g', contacts.window_hours) || ' h, at most '
        || contacts.limit_value || ': ' || {{ joined_list(ordered_list(
            "contacts.channel || ' ' || left(cast(contacts.contacted_at as varchar), 16)",
            'contacts.contacted_at desc, contacts.contact_id asc'
        ), ', ') }} as reason_detail
    from possible_sends
    inner join recent_contacts as contacts
        on
            possible_sends.profile_id = contacts.profile_id
            and possible_sends.message_class
            = coalesce(contacts.cap_class, possible_sends.message_class)
            and possible_sends.channel
            = coalesce(contacts.cap_channel, possible_sends.channel)
            -- one in doubt does not keep itself from being settled
            and possible_sends.send_id <> contacts.contact_id
    group by
        possible_sends.send_id,
        contacts.cap_channel,
        contacts.cap_class,
        contacts.window_hours,
        contacts.limit_value
    having count(*) >= contacts.limit_value

),

find_blocks as (

    select
        send_id,
        {{ stated_rule('frequency_cap') }} as rule,
        max(evidence_message_id) as evidence_message_id,
        {{ joined_list(
            ordered_list('reason_detail', 'window_hours asc, reason_detail asc'), '; '
        ) }} as reason_detail
    from find_reached_caps
    group by send_id

)

select * from find_blocks
