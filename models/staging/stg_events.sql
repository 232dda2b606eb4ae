-- One row per message that had been received by `as_of`.
with

events as (

    select * from {{ source('raw', 'events') }}

),

-- `stg_run` itself reads this model
current_run as (

    select * from {{ source('raw', 'current_run') }}

),

event_names as (

    select * from {{ ref('stg_event_names') }}

),

channel_spellings as (

    select * from {{ spellings('channel') }}

),

read_context as (

    select
        events.*,
        {{ json_texts('events.context', [
            '$.sessionId',
            '$.device.id',
            '$.device.type',
            '$.device.token',
            '$.device.advertisingId',
            '$.campaign.id',
            '$.campaign.name',
            '$.campaign.source',
            '$.campaign.medium',
            '$.campaign.content',
            '$.timezone',
            '$.locale',
            '$.location.country',
            '$.location.region',
            '$.location.city',
            '$.page.path',
            '$.page.url',
            '$.userAgent',
        ]) }} as fields,
        case
            when events.type = 'identify' then events.traits
            else {{ json_object_at('events.context', '$.traits') }}
        end as stated_traits,
        {{ json_object_at('events.context', '$.consent.categoryPreferences') }}
            as consent_preferences
    from events
    cross join current_run
    where events.received_at <= current_run.as_of

),

property_keys as (

    {{ key_spellings('properties', 'read_context', 'properties') | indent(4) }}

),

trait_keys as (

    {{ key_spellings('traits', 'read_context', 'stated_traits') | indent(4) }}

),

name_fields as (

    select
        read_context.message_id,
        read_context.type,
        read_context.event,
        read_context.anonymous_id,
        read_context.user_id,
        read_context.occurred_at,
        read_context.received_at,
        case
            when read_context.type in ('page', 'screen') then 'page_view'
            else event_names.kind
        end as kind,
        case
            when read_context.type in ('page', 'screen') then read_context.type
            else event_names.action
        end as action,
        event_names.channel as implied_channel,
        nullif(fields[1], '') as session_id,
        nullif(fields[2], '') as device_id,
        lower(nullif(fields[3], '')) as device_type,
        nullif(fields[4], '') as device_token,
        nullif(fields[5], '') as advertising_id,
        nullif(fields[6], '') as campaign_id,
        nullif(fields[7], '') as campaign_name,
        nullif(fields[8], '') as campaign_source,
        coalesce(channel_spellings.meaning, nullif(trim(fields[9]), ''))
            as campaign_medium,
        nullif(fields[10], '') as campaign_content,
        nullif(fields[11], '') as timezone,
        nullif(fields[12], '') as locale,
        nullif(fields[13], '') as country,
        nullif(fields[14], '') as region,
        nullif(fields[15], '') as city,
        nullif(fields[16], '') as page_path,
        nullif(fields[17], '') as page_url,
        nullif(fields[18], '') as user_agent,
        {{ respelled('read_context.stated_traits', 'trait_keys.respellings') }}
            as traits,
        read_context.consent_preferences,
        {{ respelled('read_context.properties', 'property_keys.respellings') }}
            as properties
    from read_context
    left join event_names
        on read_context.event = event_names.event and read_context.type = 'track'
    left join channel_spellings
        on {{ spelled('fields[9]') }} = channel_spellings.spelled
    left join property_keys
        on json_keys(read_context.properties) = property_keys.keys
    left join trait_keys
        on json_keys(read_context.stated_traits) = trait_keys.keys

)

select * from name_fields
