-- One row per message that had been received by `as_of`: when it can have happened, and
-- the campaign that it or its page names.
{#- (field, its place in the context, the parameter of an address) #}
{%- set campaign_fields = [
    ('id', 6, 'id'),
    ('name', 7, 'campaign'),
    ('source', 8, 'source'),
    ('medium', 9, 'medium'),
    ('content', 10, 'content'),
] %}
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
            '$.library.name',
            '$.integration.name',
            '$.isBot',
            '$.bot',
            '$.machine',
            '$.externalIds',
            '$.externalId',
            '$.consentManagement.deniedConsentIds',
        ]) }} as fields,
        {{ json_values('events.context', [
            '$.traits',
            '$.consent.categoryPreferences',
            '$.consent',
        ]) }} as objects,
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
        {{ if_object('coalesce(objects[2], objects[3])') }} as consent_preferences,
        case
            when type <> 'group' and context_traits is null then traits
            when type = 'group' or nullif(traits, '{}') is null then context_traits
            when type = 'identify' then json_merge_patch(context_traits, traits)
            else json_merge_patch(traits, context_traits)
        end as stated_traits
    from (
        select
            *,
            {{ if_object('objects[1]') }} as context_traits
        from read_context
    ) as read_objects

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
        {%- for place in [22, 23, 24] %}
        {{ 'or ' if not loop.first }}{{ is_flagged('fields[' ~ place ~ ']') }}
        {%- endfor %} as is_bot,
        nullif(
            regexp_extract(
                {{ url_query([
                    "'&' || fields[19]",
                    'fields[17]',
                    "'&' || page_properties[2]",
                    'page_properties[1]',
                ]) }},
                '(?s)&.*'
            ),
            ''
        ) as query
    from gather_traits

),

list_parameters as (

    select
        parameters,
        {{ unnest_items('parameters') }} as parameter
    from (
        select distinct {{ url_parameters('query') }} as parameters
        from read_queries
        where query is not null
    ) as parameter_lists

),

-- what proves an ad or a mailing goes before what shared links carry too
list_clicks as (

    select
        list_parameters.parameters,
        {%- for column in ['source', 'medium', 'is_proof'] %}
        min_by(
            click_ids.{{ column }}, (not click_ids.is_proof, click_ids.click_id)
        ) as {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from list_parameters
    inner join click_ids on list_parameters.parameter = click_ids.click_id
    group by list_parameters.parameters

),

read_campaigns as (

    select
        read_queries.*,
        list_clicks.source as click_source,
        list_clicks.medium as click_medium,
        coalesce(list_clicks.is_proof, false) as is_click_proof
        {%- for field, place, parameter in campaign_fields %},
        {{ decoded('fields[' ~ place ~ ']') }} as tracker_{{ field }},
        case
            when read_queries.query ilike '%&utm_{{ parameter }}=%'
                then {{ url_parameter('read_queries.query', 'utm_' ~ parameter) }}
        end as utm_{{ field }}
        {%- endfor %}
    from read_queries
    left join list_clicks
        on {{ url_parameters('read_queries.query') }} = list_clicks.parameters

),

drop_placeholders as (

    select
        *
        {%- for field, _, _ in campaign_fields %},
        {{ known_name('tracker_' ~ field, 'any') }} as stated_{{ field }},
        {{ known_name('utm_' ~ field, 'any') }} as page_{{ field }}
        {%- endfor %}
    from read_campaigns

),

-- a campaign that the tracker states is whole; else the page's address states it, and a
-- click id says what that leaves open, unless a link that was passed on may carry it
choose_campaigns as (

    select
        *,
        coalesce(stated_source, stated_medium) is null as is_by_page,
        is_click_proof or page_source is null as is_by_click
    from drop_placeholders

),

name_campaigns as (

    select
        *
        {%- for field, _, _ in campaign_fields %},
        coalesce(
            stated_{{ field }},
            case when is_by_page then page_{{ field }} end
            {%- if field in ('source', 'medium') %},
            case when is_by_page and is_by_click then click_{{ field }} end
            {%- endif %}
        ) as campaign_{{ field }}
        {%- endfor %}
    from choose_campaigns

),

name_fields as (

    select
        name_campaigns.message_id,
        name_campaigns.type,
        name_campaigns.event,
        {{ known_name('name_campaigns.anonymous_id') }} as anonymous_id,
        {{ known_name('name_campaigns.user_id') }} as user_id,
        name_campaigns.happened_at as occurred_at,
        name_campaigns.received_at,
        name_campaigns.occurred_at as stated_at,
        -- what a machine does in somebody's name is no activity of theirs
        case
            when
                name_campaigns.is_bot
                and coalesce(event_names.kind, 'activity')
                not in ('message', 'consent', 'order', 'service')
                then 'other'
            when name_campaigns.type in ('page', 'screen') then 'page_view'
            else event_names.kind
        end as kind,
        case
            when name_campaigns.type in ('page', 'screen') then name_campaigns.type
            else event_names.action
        end as action,
        event_names.channel as implied_channel,
        {{ known_name('fields[1]') }} as session_id,
        {{ known_name('fields[2]') }} as device_id,
        lower(nullif(fields[3], '')) as device_type,
        {{ known_name('fields[4]') }} as device_token,
        {{ known_name('fields[5]') }} as advertising_id,
        name_campaigns.campaign_id,
        name_campaigns.campaign_name,
        name_campaigns.campaign_source,
        coalesce(channel_spellings.meaning, name_campaigns.campaign_medium)
            as campaign_medium,
        name_campaigns.campaign_content,
        nullif(fields[11], '') as timezone,
        nullif(fields[12], '') as locale,
        nullif(fields[13], '') as country,
        nullif(fields[14], '') as region,
        nullif(fields[15], '') as city,
        nullif(fields[16], '') as page_path,
        nullif(fields[17], '') as page_url,
        nullif(fields[18], '') as user_agent,
        name_campaigns.is_bot,
        concat_ws(' ', nullif(fields[20], ''), nullif(fields[21], '')) as tool,
        {{ respelled('name_campaigns.stated_traits', 'trait_keys.respellings') }}
            as traits,
        coalesce(nullif(fields[25], ''), nullif(fields[26], '')) as external_ids,
        name_campaigns.consent_preferences,
        nullif(fields[27], '') as denied_consents,
        {{ respelled('name_campaigns.properties', 'property_keys.respellings') }}
            as properties
    from name_campaigns
    left join event_names
        on
            name_campaigns.event = event_names.event
            and name_campaigns.type = 'track'
    left join channel_spellings
        on {{ spelled('name_campaigns.campaign_medium') }} = channel_spellings.spelled
    left join property_keys
        on json_keys(name_campaigns.properties) = property_keys.keys
    left join trait_keys
        on json_keys(name_campaigns.stated_traits) = trait_keys.keys

)

select * from name_fields
