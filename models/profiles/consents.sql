-- One row per profile, channel and purpose: the permission stated last. A no to
-- marketing holds for everybody who has the address that said it.
{%- set addresses = {'email': 'email', 'phone': 'sms'} %}
with

consent_updates as (

    select * from {{ ref('stg_consent_updates') }}
    where channel is not null

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

identifiers as (

    select * from {{ ref('stg_identifiers') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

date_updates as (

    select
        profile_events.profile_id,
        consent_updates.channel,
        consent_updates.purpose,
        consent_updates.status,
        consent_updates.lawful_basis,
        consent_updates.policy_version,
        consent_updates.message_id,
        profile_events.occurred_at as updated_at
    from consent_updates
    inner join profile_events on consent_updates.message_id = profile_events.message_id

),

marketing_denials as (

    select * from date_updates
    where
        status = 'denied'
        and purpose = 'marketing'
        and channel in ('email', 'sms', 'all')

),

-- the address that the message names, and the one that the person has
list_denied_addresses as (

    {%- for type, channel in addresses.items() %}
    select
        denials.*,
        '{{ channel }}' as address_channel,
        identifiers.identifier as address
    from marketing_denials as denials
    inner join identifiers on denials.message_id = identifiers.message_id
    where
        identifiers.identifier_type = '{{ type }}'
        and denials.channel in ('{{ channel }}', 'all')
    union
    select
        denials.*,
        '{{ channel }}' as address_channel,
        profiles.{{ type }} as address
    from marketing_denials as denials
    inner join profiles on denials.profile_id = profiles.profile_id
    where
        profiles.{{ type }} is not null
        and denials.channel in ('{{ channel }}', 'all')
    {{ 'union' if not loop.last }}
    {%- endfor %}

),

list_updates as (

    select * from date_updates
    {%- for type, channel in addresses.items() %}
    union all
    select
        holders.profile_id,
        denied.address_channel as channel,
        denied.purpose,
        denied.status,
        denied.lawful_basis,
        denied.policy_version,
        denied.message_id,
        denied.updated_at
    from list_denied_addresses as denied
    inner join profiles as holders
        on
            denied.address = holders.{{ type }}
            and denied.profile_id <> holders.profile_id
    where denied.address_channel = '{{ channel }}'
    {%- endfor %}

),

keep_newest as (

    select * from list_updates
    qualify row_number() over (
        partition by profile_id, channel, purpose
        order by updated_at desc, status asc, message_id asc
    ) = 1

)

select * from keep_newest
