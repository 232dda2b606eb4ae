{%- set channels = {
    'email': 'profiles.email',
    'sms': 'profiles.phone',
    'push': 'push_tokens.device_token',
    'in_app': 'case when used_surfaces.has_app then profiles.identifier end',
    'onsite': 'case when used_surfaces.has_web then profiles.identifier end',
    'paid_retargeting':
        'coalesce(profiles.email, profiles.phone, push_tokens.advertising_id)',
    'direct_mail': "profiles.street || coalesce(', ' || profiles.postal_code, '') "
    ~ "|| coalesce(' ' || profiles.city, '') || coalesce(', ' || profiles.country, '')",
} -%}
-- One row per profile and channel: the address there, and whether it can be reached.
with

profiles as (

    select * from {{ ref('profiles') }}

),

events as (

    select * from {{ ref('stg_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

sessions as (

    select * from {{ ref('sessions') }}

),

identifiers as (

    select * from {{ ref('identifiers') }}

),

delivery_problems as (

    select * from {{ ref('delivery_problems') }}

),

push_tokens as (

    select
        profile_events.profile_id,
        max_by(events.device_token, (profile_events.occurred_at, events.message_id))
            filter (where events.device_token is not null) as device_token,
        max_by(events.advertising_id, (profile_events.occurred_at, events.message_id))
            filter (where events.advertising_id is not null) as advertising_id
    from events
    inner join profile_events on events.message_id = profile_events.message_id
    where events.device_token is not null or events.advertising_id is not null
    group by profile_events.profile_id

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
    {%- if 'push_tokens' in address %}
    left join push_tokens on profiles.profile_id = push_tokens.profile_id
    {%- elif 'used_surfaces' in address %}
    left join used_surfaces on profiles.profile_id = used_surfaces.profile_id
    {%- endif %}
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

find_reasons as (

    select
        list_addresses.profile_id,
        list_addresses.channel,
        list_addresses.address,
        case
            when list_addresses.address is null then 'no_address'
            when identifiers.first_seen_at > delivery_problems.problem_at then null
            when delivery_problems.problem = 'complained' then 'complained'
            when delivery_problems.success_at > delivery_problems.problem_at then null
            else delivery_problems.problem
        end as unreachable_reason
    from list_addresses
    left join delivery_problems
        on
            list_addresses.profile_id = delivery_problems.profile_id
            and list_addresses.channel = delivery_problems.channel
    left join identifiers
        on
            list_addresses.address = identifiers.identifier
            and identifiers.identifier_type
            = case list_addresses.channel
                when 'email' then 'email'
                when 'sms' then 'phone'
            end

),

tell_reachability as (

    select
        profile_id,
        channel,
        address,
        unreachable_reason is null as is_reachable,
        unreachable_reason
    from find_reasons

)

select * from tell_reachability
