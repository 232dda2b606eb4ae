-- One row per possible send and rule by which its enrollment has no use for it now.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

enrollments as (

    select * from {{ ref('enrollments') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

set_aside as (

    select distinct journey from {{ ref('stg_journey_problems') }}

),

sends as (

    select * from {{ ref('stg_sends') }}
    where state in ('inflight', 'sent', 'unknown')

),

entries as (

    select * from {{ ref('entries') }}
    where
        entry_reason in ('cart_abandoned', 'checkout_abandoned')
        and product_id is not null

),

cart_items as (

    select * from {{ ref('cart_items') }}

),

removals as (

    select * from {{ ref('product_interactions') }}
    where action = 'removed'

),

step_conditions as (

    select * from {{ ref('step_conditions') }}

),

find_set_aside as (

    select
        possible_sends.send_id,
        {{ stated_rule('journey_set_aside') }} as rule,
        cast(null as varchar) as evidence_message_id,
        cast(null as varchar) as reason_detail
    from possible_sends
    inner join set_aside on possible_sends.journey = set_aside.journey

),

-- the person has left the journey, had what comes later, or does not meet any more what
-- the step asks for
find_moot as (

    select
        possible_sends.send_id,
        {{ stated_rule('no_longer_due') }} as rule,
        cast(null as varchar) as evidence_message_id,
        cast(null as varchar) as reason_detail
    from possible_sends
    inner join enrollments on possible_sends.enrollment_id = enrollments.enrollment_id
    where
        enrollments.state <> 'active'
        or exists (
            select 1 from sends
            where
                sends.enrollment_id = possible_sends.enrollment_id
                and sends.send_id <> possible_sends.send_id
                and sends.as_of >= possible_sends.decided_at
        )
        or exists (
            select 1 from step_conditions
            where
                step_conditions.enrollment_id = possible_sends.enrollment_id
                and step_conditions.step = possible_sends.step
                and not step_conditions.is_met
        )

),

find_expired as (

    select
        send_id,
        {{ stated_rule('expired') }} as rule,
        cast(null as varchar) as evidence_message_id,
        cast(null as varchar) as reason_detail
    from possible_sends
    where
        {{ add_seconds(
            'waits_since', '3600 * ' ~ decision_rule('expired', 'window_hours')
        ) }} < as_of

),

find_emptied_carts as (

    select
        possible_sends.send_id,
        {{ stated_rule('cart_emptied') }} as rule,
        max_by(removals.message_id, (removals.occurred_at, removals.message_id))
            as evidence_message_id,
        cast(null as varchar) as reason_detail
    from possible_sends
    inner join entries on possible_sends.enrollment_id = entries.enrollment_id
    inner join removals
        on
            possible_sends.profile_id = removals.profile_id
            and entries.evidence_at <= removals.occurred_at
    where
        possible_sends.profile_id not in (
            select cart_items.profile_id from cart_items
        )
    group by possible_sends.send_id

),

-- who began first goes first; nobody hears of an arm that is left out
rank_in_groups as (

    select
        enrollments.enrollment_id,
        enrollments.profile_id,
        enrollments.journey,
        journeys.journey_group,
        journeys.group_cap,
        row_number() over (
            partition by enrollments.profile_id, journeys.journey_group
            order by
                enrollments.entered_at asc,
                journeys.priority asc,
                enrollments.enrollment_id asc
        ) as place
    from enrollments
    inner join journeys on enrollments.journey = journeys.journey
    where
        enrollments.state = 'active'
        and enrollments.assignment = 'treated'
        and journeys.journey_group is not null

),

find_capped as (

    select
        possible_sends.send_id,
        {{ stated_rule('journey_cap') }} as rule,
        cast(null as varchar) as evidence_message_id,
        'after ' || {{ joined_list(
            ordered_list('firsts.journey', 'firsts.place asc'), ', '
        ) }} as reason_detail
    from possible_sends
    inner join rank_in_groups as ours
        on possible_sends.enrollment_id = ours.enrollment_id
    inner join rank_in_groups as firsts
        on
            ours.profile_id = firsts.profile_id
            and ours.journey_group = firsts.journey_group
            and ours.place > firsts.place
    where ours.place > ours.group_cap
    group by possible_sends.send_id

),

unite_blocks as (

    select * from find_set_aside
    union all
    select * from find_moot
    union all
    select * from find_expired
    union all
    select * from find_emptied_carts
    union all
    select * from find_capped

)

select * from unite_blocks
