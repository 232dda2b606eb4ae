-- One row per possible send that no rule stands against, and yet another goes before
-- it: on another channel, to the same person, to the same address, or as one of those
-- that a channel that is new may carry today.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

rule_hits as (

    select * from {{ ref('rule_hits') }}

),

channel_choices as (

    select * from {{ ref('channel_choices') }}

),

contact_points as (

    select * from {{ ref('contact_points') }}

),

warm_ups as (

    select * from {{ ref('warm_ups') }}

),

-- the channel of a send that waits was chosen when it was decided
stand_back as (

    select
        send_id,
        {{ stated_rule('another_channel') }} as rule
    from channel_choices
    where not is_chosen

),

rank_for_persons as (

    select
        *,
        row_number() over (
            partition by profile_id
            order by
                priority asc,
                entered_at asc,
                enrollment_id asc,
                step_position asc,
                send_id asc
        ) as place
    from possible_sends
    where
        send_id not in (select rule_hits.send_id from rule_hits)
        and send_id not in (select stand_back.send_id from stand_back)

),

rank_at_addresses as (

    select
        persons.send_id,
        row_number() over (
            partition by
                persons.channel,
                contact_points.address,
                persons.journey,
                persons.step
            order by persons.entered_at asc, persons.send_id asc
        ) as place
    from rank_for_persons as persons
    inner join contact_points
        on
            persons.profile_id = contact_points.profile_id
            and persons.channel = contact_points.channel
    where persons.place = 1 and persons.message_class = 'marketing'

),

rank_on_channels as (

    select
        persons.send_id,
        warm_ups.rest_count,
        row_number() over (
            partition by persons.channel
            order by persons.priority asc, persons.entered_at asc, persons.send_id asc
        ) as place
    from rank_for_persons as persons
    inner join rank_at_addresses as addresses on persons.send_id = addresses.send_id
    inner join warm_ups on persons.channel = warm_ups.channel
    where addresses.place = 1

),

unite_blocks as (

    select * from stand_back

    union all

    select
        send_id,
        {{ stated_rule('arbitration') }} as rule
    from rank_for_persons
    where place > 1

    union all

    select
        send_id,
        {{ stated_rule('arbitration') }} as rule
    from rank_at_addresses
    where place > 1

    union all

    select
        send_id,
        {{ stated_rule('warm_up') }} as rule
    from rank_on_channels
    where place > rest_count

)

select * from unite_blocks
