-- One row per profile and channel: the address there, and whether it can be reached.
with

addresses as (

    select * from {{ ref('addresses') }}

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

-- what was reported before an address was first seen was about another one
keep_own_problems as (

    select
        addresses.*,
        problems.temporary_failure_count,
        {%- for moment in [
            'complained', 'unsubscribed', 'failed', 'temporarily_failed', 'success'
        ] %}
        case
            when addresses.valid_from > problems.{{ moment }}_at then null
            else problems.{{ moment }}_at
        end as {{ moment }}_at,
        {%- endfor %}
        case
            when addresses.valid_from > problems.failed_at then null
            else problems.failure
        end as failure
    from addresses
    left join delivery_problems as problems
        on
            addresses.profile_id = problems.profile_id
            and addresses.channel = problems.channel

),

find_reasons as (

    select
        addresses.*,
        case
            when addresses.address is null then 'no_address'
            when
                addresses.channel = 'email'
                and (
                    addresses.address not like '_%@_%._%'
                    or addresses.address like '%@%@%'
                    or addresses.address like '% %'
                )
                then 'invalid_address'
            when addresses.token_problem is not null then addresses.token_problem
            when addresses.complained_at is not null then 'complained'
            -- a carrier that was told to stop delivers nothing more
            when
                addresses.channel = 'sms'
                and addresses.unsubscribed_at is not null
                and consents.status = 'denied'
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
    from keep_own_problems as addresses
    cross join rules
    left join consents
        on
            addresses.profile_id = consents.profile_id
            and addresses.channel = consents.channel

),

tell_reachability as (

    select
        profile_id,
        channel,
        address,
        unreachable_reason is null as is_reachable,
        unreachable_reason,
        valid_from,
        case when address is not null then greatest(last_seen_at, success_at) end
            as last_confirmed_at
    from find_reasons

)

select * from tell_reachability
