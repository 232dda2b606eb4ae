-- One row per possible send to a person who had as many messages as the cap allows.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

contacts as (

    select * from {{ ref('recent_contacts') }}

),

find_blocks as (

    select
        possible_sends.send_id,
        {{ stated_rule('frequency_cap') }} as rule,
        max(contacts.contact_id) as evidence_message_id,
        {{ joined_list(ordered_list(
            "contacts.channel || ' ' || left(cast(contacts.contacted_at as varchar), 16)",
            'contacts.contacted_at desc, contacts.contact_id asc'
        ), ', ') }} as reason_detail
    from possible_sends
    inner join contacts on possible_sends.profile_id = contacts.profile_id
    group by possible_sends.send_id
    having count(*) >= {{ decision_rule('frequency_cap', 'limit_value') }}

)

select * from find_blocks
