-- One row per profile, channel and purpose: the permission stated last. A no to
-- marketing holds for everybody who has the address that said it.
{%- set address_types = ['email', 'phone'] %}
with

addressed_channels as (

    select
        channel,
        address_type
    from {{ ref('channel_rules') }}
    where address_type in ('email', 'phone')

),

consent_updates as (

    select * from {{ ref('stg_consent_updates') }}
    where channel is not null

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

identifiers as (

    select * from {{ ref('stg_identifiers') }}

),

phone_numbers as (

    select * from {{ ref('stg_phone_numbers') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

-- a no to a purpose that no journey has either may mean all marketing
spread_doubt as (

    select * from consent_updates
    union all
    select * replace ('marketing' as purpose)
    from consent_updates
    where
        is_purpose_unknown
        and status = 'denied'
        and {{ spelled('purpose') }} not in (
            select {{ spelled('journeys.purpose') }} from journeys
            where journeys.purpose is not null
        )

),

date_updates as (

    select
        profile_events.profile_id,
        consent_updates.channel,
        consent_updates.purpose,
        consent_updates.status,
        consent_updates.lawful_basis,
        consent_updates.policy_version,
        consent_updates.subscription_group,
        consent_updates.message_id,
        consent_updates.user_id,
        consent_updates.effective_at as updated_at
    from spread_doubt as consent_updates
    inner join profile_events on consent_updates.message_id = profile_events.message_id

),

marketing_denials as (

    select * from date_updates
    where
        status = 'denied'
        and purpose = 'marketing'

),

-- the address that the message names, the one that is its user id, and the one that the
-- person has
list_denied_addresses as (

    {%- for type in address_types %}
    select
        denials.*,
        identifiers.identifier_type as address_type,
        identifiers.identifier as address
    from marketing_denials as denials
    inner join identifiers on denials.message_id = identifiers.message_id
    where identifiers.identifier_type = '{{ type }}'
    union
    select
        denials.*,
        '{{ type }}' as address_type,
        profiles.{{ type }} as address
    from marketing_denials as denials
    inner join profiles on denials.profile_id = profiles.profile_id
    where profiles.{{ type }} is not null
    union
    {%- endfor %}
    select
        *,
        'email' as address_type,
        lower(user_id) as address
    from marketing_denials
    where user_id like '%@%'
    union
    select
        denials.*,
        'phone' as address_type,
        phone_numbers.phone as address
    from marketing_denials as denials
    inner join phone_numbers on denials.user_id = phone_numbers.spelling
    where denials.user_id like '+%'

),

close_channels as (

    select
        denied.*,
        addressed_channels.channel as address_channel
    from list_denied_addresses as denied
    inner join addressed_channels
        on
            denied.address_type = addressed_channels.address_type
            and denied.channel in (addressed_channels.channel, 'all')

),

list_updates as (

    select
        profile_id,
        channel,
        purpose,
        status,
        lawful_basis,
        policy_version,
        subscription_group,
        message_id,
        updated_at
    from date_updates
    {%- for type in address_types %}
    union all
    select
        holders.profile_id,
        denied.address_channel as channel,
        denied.purpose,
        denied.status,
        denied.lawful_basis,
        denied.policy_version,
        denied.subscription_group,
        denied.message_id,
        denied.updated_at
    from close_channels as denied
    inner join profiles as holders
        on
            denied.address = holders.{{ type }}
            and denied.profile_id <> holders.profile_id
    where denied.address_type = '{{ type }}'
    {%- endfor %}

),

-- a word such as START gives back what was given before, and nothing else
keep_given as (

    select * from list_updates
    qualify
        status = 'denied'
        or policy_version is distinct from 'keyword'
        or count(
            case
                when status = 'granted' and policy_version is distinct from 'keyword'
                    then 1
            end
        ) over (
            partition by profile_id, channel, purpose
            order by updated_at asc, message_id asc
            rows between unbounded preceding and current row
        ) > 0

),

-- a no is undone by a yes to the same group of subscriptions or to all of them
judge_denials as (

    select
        *,
        status = 'denied'
        and updated_at >= coalesce(
            greatest(
                max(case when status = 'granted' then updated_at end) over (
                    partition by profile_id, channel, purpose, subscription_group
                ),
                max(
                    case
                        when status = 'granted' and subscription_group is null
                            then updated_at
                    end
                ) over (partition by profile_id, channel, purpose)
            ),
            updated_at
        ) as is_standing_denial
    from keep_given

),

keep_newest as (

    select
        profile_id,
        channel,
        purpose,
        status,
        lawful_basis,
        policy_version,
        message_id,
        updated_at
    from judge_denials
    qualify row_number() over (
        partition by profile_id, channel, purpose
        order by
            is_standing_denial desc,
            updated_at desc,
            status asc,
            message_id asc
    ) = 1

)

select * from keep_newest
