-- One row per message that had been received by `as_of`: when it can have happened, and
-- the campaign that it or its page names.
{%- set page_fields = [
    ('source', 'campaign_source'),
    ('medium', 'campaign_medium'),
    ('campaign', 'campaign_name'),
    ('content', 'campaign_content'),
    ('id', 'campaign_id'),
] %}
{%- set medium -%}
    coalesce(
            nullif(trim(fields[9]), ''),
            case when is_by_page then coalesce(page_campaign_medium, ad_medium) end
        )
{%- endset %}
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

click_ids as (

    select * from {{ ref('click_ids') }}

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
            '$.page.search',
            '$.externalIds',
            '$.externalId',
            '$.consentManagement.deniedConsentIds',
        ]) }} as fields,
        {{ json_object_at('events.context', '$.traits') }} as context_traits,
        case
            when json_type(events.context, '$.consent.categoryPreferences') is null
                then {{ json_object_at('events.context', '$.consent') }}
            else {{ json_object_at('events.context', '$.consent.categoryPreferences') }}
        end as consent_preferences,
        case
            when events.type = 'page'
                then {{ json_texts('events.properties', ['$.url', '$.search']) }}
        end as page_properties,
        {{ possible_time('events.occurred_at', 'events.received_at') }} as happened_at
    from events
    cross join current_run
    where
        events.received_at <= current_run.as_of
        and {{ possible_time('events.occurred_at', 'events.received_at') }}
        <= current_run.as_of

),

-- some clients write the traits of an identify call into its context, or those of a
-- track call beside it, or some here and some there
gather_traits as (

    select
        *,
        case
            when type <> 'group' and context_traits is null then traits
            when type = 'group' or nullif(traits, '{}') is null then context_traits
            when type = 'identify' then json_merge_patch(context_traits, traits)
            else json_merge_patch(traits, context_traits)
        end as stated_traits
    from read_context

),

property_keys as (

    {{ key_spellings('properties', 'gather_traits', 'properties') | indent(4) }}

),

trait_keys as (

    {{ key_spellings('traits', 'gather_traits', 'stated_traits') | indent(4) }}

),

read_queries as (

    select
        *,
        '&' || nullif(regexp_extract(coalesce(
            '?' || ltrim(nullif(fields[19], ''), '?'),
            nullif(fields[17], ''),
            '?' || ltrim(nullif(page_properties[2], ''), '?'),
            page_properties[1]
        ), '[?]([^#]*)', 1), '') as query
    from gather_traits

),

list_queries as (

    select distinct query
    from read_queries
    where query is not null

),

list_ad_clicks as (

    select
        list_queries.query,
        min_by(click_ids.source, click_ids.click_id) as source,
        min_by(click_ids.medium, click_ids.click_id) as medium
    from list_queries
    inner join click_ids
        on lower(list_queries.query) like '%&' || click_ids.click_id || '=_%'
    group by list_queries.query

),

-- a campaign that the tracker states is whole; else the page's address states it
read_campaigns as (

    select
        read_queries.*,
        list_ad_clicks.source as ad_source,
        list_ad_clicks.medium as ad_medium,
        coalesce(nullif(fields[8], ''), nullif(fields[9], '')) is null as is_by_page
        {%- for parameter, field in page_fields %},
        case
            when lower(read_queries.query) like '%&utm_%'
                then {{ url_parameter('read_queries.query', 'utm_' ~ parameter) }}
        end as page_{{ field }}
        {%- endfor %}
    from read_queries
    left join list_ad_clicks on read_queries.query = list_ad_clicks.query

),

name_fields as (

    select
        read_campaigns.message_id,
        read_campaigns.type,
        read_campaigns.event,
        read_campaigns.anonymous_id,
        read_campaigns.user_id,
        read_campaigns.happened_at as occurred_at,
        read_campaigns.received_at,
        read_campaigns.occurred_at as stated_at,
        case
            when read_campaigns.type in ('page', 'screen') then 'page_view'
            else event_names.kind
        end as kind,
        case
            when read_campaigns.type in ('page', 'screen') then read_campaigns.type
            else event_names.action
        end as action,
        event_names.channel as implied_channel,
        nullif(fields[1], '') as session_id,
        nullif(fields[2], '') as device_id,
        lower(nullif(fields[3], '')) as device_type,
        nullif(fields[4], '') as device_token,
        case
            when not {{ is_placeholder("'advertising_id'", 'fields[5]') }}
                then nullif(fields[5], '')
        end as advertising_id,
        coalesce(
            nullif(fields[6], ''), case when is_by_page then page_campaign_id end
        ) as campaign_id,
        coalesce(
            nullif(fields[7], ''), case when is_by_page then page_campaign_name end
        ) as campaign_name,
        coalesce(
            nullif(fields[8], ''),
            case when is_by_page then coalesce(page_campaign_source, ad_source) end
        ) as campaign_source,
        coalesce(channel_spellings.meaning, {{ medium }}) as campaign_medium,
        coalesce(
            nullif(fields[10], ''),
            case when is_by_page then page_campaign_content end
        ) as campaign_content,
        nullif(fields[11], '') as timezone,
        nullif(fields[12], '') as locale,
        nullif(fields[13], '') as country,
        nullif(fields[14], '') as region,
        nullif(fields[15], '') as city,
        nullif(fields[16], '') as page_path,
        nullif(fields[17], '') as page_url,
        nullif(fields[18], '') as user_agent,
        {{ respelled('read_campaigns.stated_traits', 'trait_keys.respellings') }}
            as traits,
        coalesce(nullif(fields[20], ''), nullif(fields[21], '')) as external_ids,
        read_campaigns.consent_preferences,
        nullif(fields[22], '') as denied_consents,
        {{ respelled('read_campaigns.properties', 'property_keys.respellings') }}
            as properties
    from read_campaigns
    left join event_names
        on
            read_campaigns.event = event_names.event
            and read_campaigns.type = 'track'
    left join channel_spellings
        on {{ spelled(medium) }} = channel_spellings.spelled
    left join property_keys
        on json_keys(read_campaigns.properties) = property_keys.keys
    left join trait_keys
        on json_keys(read_campaigns.stated_traits) = trait_keys.keys

)

select * from name_fields
