-- One row per profile, channel and rule by which no message gets there. Of those who
-- are in a journey now, or whom a send waits to be delivered to.
with

enrolled_profiles as (

    {{ enrolled_profiles() }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

destinations as (

    select * from {{ ref('stg_destinations') }}

),

contact_points as (

    select * from {{ ref('contact_points') }}

),

describe_channels as (

    select
        enrolled_profiles.profile_id,
        channel_rules.channel,
        destinations.channel is not null as has_destination,
        coalesce(contact_points.is_reachable, false) as is_reachable,
        coalesce(
            contact_points.unreachable_reason in (
                'bounced', 'failed', 'soft_bounced', 'complained', 'stopped'
            ),
            false
        ) as is_refused,
        case
            when contact_points.unreachable_reason = 'stopped'
                then contact_points.unsubscribe_message_id
        end as evidence_message_id
    from enrolled_profiles
    cross join channel_rules
    left join destinations on channel_rules.channel = destinations.channel
    left join contact_points
        on
            enrolled_profiles.profile_id = contact_points.profile_id
            and channel_rules.channel = contact_points.channel

),

apply_rules as (

    select
        profile_id,
        channel,
        {{ stated_rule('no_destination') }} as rule,
        cast(null as varchar) as evidence_message_id
    from describe_channels
    where not has_destination

    union all

    select
        profile_id,
        channel,
        {{ stated_rule('unreachable') }} as rule,
        cast(null as varchar) as evidence_message_id
    from describe_channels
    where not is_reachable and not is_refused

    union all

    select
        profile_id,
        channel,
        {{ stated_rule('suppression_list') }} as rule,
        evidence_message_id
    from describe_channels
    where not is_reachable and is_refused

)

select * from apply_rules
