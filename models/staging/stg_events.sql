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
{{ config(materialized='by_message') }}

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

-- what proves an ad or a mailing goes before what shared links carry too
rank_click_ids as (

    select
        {{ ordered_list('click_id', 'is_proof desc, click_id asc') }} as names,
        {{ ordered_list(
            "{'name': click_id, 'source': source, 'medium': medium,"
            ~ " 'is_proof': is_proof}",
            'is_proof desc, click_id asc'
        ) }} as click_ids
    from {{ ref('click_ids') }}

),

read_context as (

    select
        events.* exclude (properties),
        {{ with_lifted('events.properties', 'ecommerce') }} as properties,
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
            '$.traits',
            '$.consent.categoryPreferences',
            '$.consent',
        ]) }} as fields,
        case
            when events.type = 'page'
                then {{ json_texts('events.properties', ['$.url', '$.search']) }}
        end as page_properties,
        {{ possible_time('events.occurred_at', 'events.received_at') }} as happened_at,
        current_run.run_seq
    from events
    cross join current_run
    -- one condition, for of two the planner expects that they leave next to nothing
    where
        case
            when events.received_at <= current_run.as_of and {{ is_new_arrival() }}
                then
                    {{ possible_time('events.occurred_at', 'events.received_at') }}
                    <= current_run.as_of
        end

),

new_arrivals as (

    select
        context,
        {{ with_lifted('properties', 'ecommerce') }} as properties,
        traits
    from {{ source('raw', 'events') }}
    where {{ is_new_arrival() }}

),

property_keys as (

    {{ key_spellings('properties', 'new_arrivals', 'properties') | indent(4) }}

),

list_traits as (

    select traits from new_arrivals
    union all
    select {{ json_object_at('context', '$.traits') }} as traits
    from new_arrivals
    where context like '%"traits"%'

),

trait_keys as (

    {{ key_spellings('traits', 'list_traits', 'traits') | indent(4) }}

),

machine_agents as (

    select {{ ordered_list('agents.user_agent', 'agents.user_agent asc') }} as names
    from (
        select distinct {{ json_text('context', '$.userAgent') }} as user_agent
        from new_arrivals
        where context like '%"userAgent"%'
    ) as agents
    where
        exists (
            select 1
            from {{ ref('machine_user_agents') }} as machines
            where lower(agents.user_agent) like lower(machines.user_agent_pattern)
        )

),

-- some clients write the traits of an identify call into its context, or those of a
-- track call beside it, or some here and some there
gather_traits as (

    select
        read_context.*,
        {{ if_object('coalesce(fields[29], fields[30])') }} as consent_preferences,
        {{ respelled('read_context.traits', 'trait_keys.respellings') }}
            as call_traits,
        {{ respelled(
            if_object('fields[28]'), 'context_trait_keys.respellings'
        ) }} as context_traits
    from read_context
    left join trait_keys on json_keys(read_context.traits) = trait_keys.keys
    left join trait_keys as context_trait_keys
        on json_keys(try_cast(fields[28] as json)) = context_trait_keys.keys

),

read_queries as (

    select
        gather_traits.*,
        case
            when type <> 'group' and context_traits is null then call_traits
            when type = 'group' or nullif(call_traits, '{}') is null
                then context_traits
            when type = 'identify' then json_merge_patch(context_traits, call_traits)
            else json_merge_patch(call_traits, context_traits)
        end as stated_traits,
        coalesce(list_contains(machine_agents.names, fields[18]), false)
        {%- for place in [22, 23, 24] %}
        or {{ is_flagged('fields[' ~ place ~ ']') }}
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
    cross join machine_agents

),

read_campaigns as (

    select
        read_queries.*,
        case
            when
                list_has_any(
                    {{ url_parameters('read_queries.query') }}, rank_click_ids.names
                )
                then list_filter(
                    rank_click_ids.click_ids,
                    lambda click:
                    list_contains(
                        {{ url_parameters('read_queries.query') }},
                        struct_extract(click, 'name')
                    )
                )[1]
        end as click
        {%- for field, place, parameter in campaign_fields %},
        {{ decoded('fields[' ~ place ~ ']') }} as tracker_{{ field }},
        case
            when read_queries.query ilike '%&utm_{{ parameter }}=%'
                then {{ url_parameter('read_queries.query', 'utm_' ~ parameter) }}
        end as utm_{{ field }}
        {%- endfor %}
    from read_queries
    cross join rank_click_ids

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
        coalesce(click.is_proof, false) or page_source is null as is_by_click
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
            case when is_by_page and is_by_click then click.{{ field }} end
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
        name_campaigns.stated_traits as traits,
        coalesce(nullif(fields[25], ''), nullif(fields[26], '')) as external_ids,
        name_campaigns.consent_preferences,
        nullif(fields[27], '') as denied_consents,
        {{ respelled('name_campaigns.properties', 'property_keys.respellings') }}
            as properties,
        name_campaigns.run_seq as batch_seq
    from name_campaigns
    left join event_names
        on
            name_campaigns.event = event_names.event
            and name_campaigns.type = 'track'
    left join channel_spellings
        on {{ spelled('name_campaigns.campaign_medium') }} = channel_spellings.spelled
    left join property_keys
        on json_keys(name_campaigns.properties) = property_keys.keys

)

select * from name_fields
