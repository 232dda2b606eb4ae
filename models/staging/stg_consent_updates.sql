-- One row per message, channel and purpose for which a permission was stated.
with

events as (

    select * from {{ ref('stg_events') }}

),

channel_updates as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        lower({{ json_text('properties', '$.channel') }}) as channel,
        coalesce(lower({{ json_text('properties', '$.purpose') }}), 'marketing')
            as purpose,
        lower({{ json_text('properties', '$.status') }}) as stated_status,
        {{ json_text('properties', '$.lawful_basis') }} as lawful_basis,
        {{ json_text('properties', '$.policy_version') }} as policy_version
    from events
    where kind = 'consent' and action = 'channel'

),

list_preferences as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        consent_preferences,
        {{ json_text('properties', '$.policy_version') }} as policy_version,
        unnest(json_keys(consent_preferences)) as purpose
    from events
    where
        kind = 'consent'
        and action = 'preferences'
        and json_type(consent_preferences) = 'OBJECT'

),

preference_updates as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        'all' as channel,
        lower(purpose) as purpose,
        json_extract_string(consent_preferences, '$."' || purpose || '"')
            as stated_status,
        'consent' as lawful_basis,
        policy_version
    from list_preferences

),

name_status as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        channel,
        purpose,
        case
            when
                stated_status in (
                    'granted', 'true', 'subscribed', 'opted_in', 'opted-in'
                )
                then 'granted'
            else 'denied'
        end as status,
        lawful_basis,
        policy_version
    from (
        select * from channel_updates
        union all
        select * from preference_updates
    ) as updates
    where channel is not null

)

select * from name_status
