{%- set address_types = {
    'email': 'profiles.email',
    'phone': 'profiles.phone',
    'device_token': 'app_devices.device_token',
    'app_user': 'case when used_surfaces.has_app then profiles.identifier end',
    'web_user': 'case when used_surfaces.has_web then profiles.identifier end',
    'ad_identity':
        'coalesce(profiles.email, profiles.phone, app_devices.advertising_id)',
    'postal_address': "profiles.street || coalesce(', ' || profiles.postal_code, '') "
    ~ "|| coalesce(' ' || profiles.city, '') || coalesce(', ' || profiles.country, '')",
} -%}
-- One row per profile and channel: the address there, and when it was seen.
with

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

app_devices as (

    select * from {{ ref('app_devices') }}

),

sessions as (

    select * from {{ ref('sessions') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

used_surfaces as (

    select
        profile_id,
        bool_or(is_app) as has_app,
        bool_or(is_web) as has_web
    from sessions
    group by profile_id

),

list_addresses as (

    {%- for address_type, address in address_types.items() %}
    select
        profiles.profile_id,
        channel_rules.channel,
        channel_rules.address_type,
        {{ address }} as address
    from profiles
    inner join channel_rules on channel_rules.address_type = '{{ address_type }}'
    {%- if 'app_devices' in address %}
    left join app_devices on profiles.profile_id = app_devices.profile_id
    {%- elif 'used_surfaces' in address %}
    left join used_surfaces on profiles.profile_id = used_surfaces.profile_id
    {%- endif %}
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

date_addresses as (

    select
        list_addresses.profile_id,
        list_addresses.channel,
        list_addresses.address_type,
        list_addresses.address,
        case
            when
                list_addresses.address_type = 'device_token'
                or app_devices.token_problem = 'app_uninstalled'
                then app_devices.token_problem
        end as token_problem,
        case
            when list_addresses.address_type = 'device_token'
                then app_devices.token_first_seen_at
            else identifiers.first_seen_at
        end as valid_from,
        case
            when list_addresses.address_type = 'device_token'
                then app_devices.token_last_seen_at
            else identifiers.last_seen_at
        end as last_seen_at
    from list_addresses
    left join app_devices
        on
            list_addresses.profile_id = app_devices.profile_id
            and list_addresses.address_type in ('device_token', 'app_user')
    left join identifiers
        on
            list_addresses.address = identifiers.identifier
            and list_addresses.address_type = identifiers.identifier_type
            and list_addresses.address_type in ('email', 'phone')

)

select * from date_addresses
