{%- set channels = {
    'email': 'profiles.email',
    'sms': 'profiles.phone',
    'push': 'app_devices.device_token',
    'in_app': 'case when used_surfaces.has_app then profiles.identifier end',
    'onsite': 'case when used_surfaces.has_web then profiles.identifier end',
    'paid_retargeting':
        'coalesce(profiles.email, profiles.phone, app_devices.advertising_id)',
    'direct_mail': "profiles.street || coalesce(', ' || profiles.postal_code, '') "
    ~ "|| coalesce(' ' || profiles.city, '') || coalesce(', ' || profiles.country, '')",
} -%}
-- One row per profile and channel: the address there, and when it was seen.
with

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

    {%- for channel, address in channels.items() %}
    select
        profiles.profile_id,
        '{{ channel }}' as channel,
        {{ address }} as address
    from profiles
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
        list_addresses.address,
        case
            when
                list_addresses.channel = 'push'
                or app_devices.token_problem = 'app_uninstalled'
                then app_devices.token_problem
        end as token_problem,
        case
            when list_addresses.channel = 'push' then app_devices.token_first_seen_at
            else identifiers.first_seen_at
        end as valid_from,
        case
            when list_addresses.channel = 'push' then app_devices.token_last_seen_at
            else identifiers.last_seen_at
        end as last_seen_at
    from list_addresses
    left join app_devices
        on
            list_addresses.profile_id = app_devices.profile_id
            and list_addresses.channel in ('push', 'in_app')
    left join identifiers
        on
            list_addresses.address = identifiers.identifier
            and identifiers.identifier_type
            = case list_addresses.channel
                when 'email' then 'email'
                when 'sms' then 'phone'
            end

)

select * from date_addresses
