-- One row per profile and channel: the address there, and whether it can be reached.
with

addresses as (

    select * from {{ ref('addresses') }}

),

mail_addresses as (

    select * from {{ ref('mail_addresses') }}

),

delivery_problems as (

    select * from {{ ref('delivery_problems') }}

),

consents as (

    select * from {{ ref('consents') }}
    where purpose = 'marketing'

),

rules as (

    select * from {{ ref('profile_rules') }}

),

describe_addresses as (

    select
        addresses.*,
        addresses.address_type <> 'email' or mail_addresses.wire_address is not null
            as takes_messages,
        problems.complained_at,
        problems.failure,
        problems.failed_at,
        problems.temporary_failure_count,
        problems.temporarily_failed_at,
        problems.success_at,
        -- holds for whoever has the address, until they ask for messages again
        case
            when
                consents.status = 'granted'
                and consents.updated_at > problems.unsubscribed_at
                then null
            else problems.unsubscribe_message_id
        end as unsubscribe_message_id
    from addresses
    left join mail_addresses on addresses.address = mail_addresses.address
    left join delivery_problems as problems
        on
            addresses.profile_id = problems.profile_id
            and addresses.channel = problems.channel
    left join consents
        on
            addresses.profile_id = consents.profile_id
            and addresses.channel = consents.channel

),

find_reasons as (

    select
        addresses.*,
        case
            when addresses.address is null then 'no_address'
            when not addresses.takes_messages then 'invalid_address'
            when addresses.token_problem is not null then addresses.token_problem
            when addresses.complained_at is not null then 'complained'
            -- a carrier that was asked to stop delivers nothing more
            when
                addresses.address_type = 'phone'
                and addresses.unsubscribe_message_id is not null
                then 'stopped'
            when
                addresses.failed_at
                >= coalesce(addresses.success_at, addresses.failed_at)
                then addresses.failure
            when
                addresses.temporarily_failed_at is not null
                and addresses.temporary_failure_count >= rules.soft_bounce_limit
                then 'soft_bounced'
        end as unreachable_reason
    from describe_addresses as addresses
    cross join rules

),

derive_reachability as (

    select
        profile_id,
        channel,
        address,
        unreachable_reason is null as is_reachable,
        unreachable_reason,
        unsubscribe_message_id,
        valid_from,
        case when address is not null then greatest(last_seen_at, success_at) end
            as last_confirmed_at
    from find_reasons

)

select * from derive_reachability
