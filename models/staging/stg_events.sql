-- One row per message that had been received by `as_of`.
with

events as (

    select * from {{ source('raw', 'events') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

semantic_events as (

    select * from {{ ref('semantic_events') }}

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
            '$.traits',
            '$.consent.categoryPreferences',
        ]) }} as fields
    from events
    cross join run
    where events.received_at <= run.as_of

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
            else semantic_events.kind
        end as kind,
        case
            when read_context.type in ('page', 'screen') then read_context.type
            else semantic_events.action
        end as action,
        semantic_events.channel as implied_channel,
        nullif(fields[1], '') as session_id,
        nullif(fields[2], '') as device_id,
        lower(nullif(fields[3], '')) as device_type,
        nullif(fields[4], '') as device_token,
        nullif(fields[5], '') as advertising_id,
        nullif(fields[6], '') as campaign_id,
        nullif(fields[7], '') as campaign_name,
        nullif(fields[8], '') as campaign_source,
        nullif(fields[9], '') as campaign_medium,
        nullif(fields[10], '') as campaign_content,
        nullif(fields[11], '') as timezone,
        nullif(fields[12], '') as locale,
        nullif(fields[13], '') as country,
        nullif(fields[14], '') as region,
        nullif(fields[15], '') as city,
        nullif(fields[16], '') as page_path,
        nullif(fields[17], '') as page_url,
        nullif(fields[18], '') as user_agent,
        case
            when read_context.type = 'identify' then read_context.traits
            else cast(fields[19] as json)
        end as traits,
        cast(fields[20] as json) as consent_preferences,
        read_context.properties
    from read_context
    left join semantic_events
        on
            read_context.event = semantic_events.event
            and read_context.type = 'track'

)

select * from name_fields
