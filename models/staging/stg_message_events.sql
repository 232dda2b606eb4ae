-- One row per thing that happened to a message to a customer.
with

events as (

    select * from {{ ref('stg_events') }}

),

machine_user_agents as (

    select * from {{ ref('machine_user_agents') }}

),

reach_rules as (

    select * from {{ ref('reach_rules') }}

),

sends as (

    select * from {{ ref('stg_sends') }}

),

channel_spellings as (

    select * from {{ spellings('channel') }}
    where meaning <> 'all'

),

bounce_types as (

    select * from {{ spellings('bounce_type') }}

),

read_properties as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        case when action = 'soft_bounced' then 'bounced' else action end
            as interaction,
        action = 'soft_bounced' as is_soft_bounce,
        implied_channel,
        user_agent,
        campaign_id as context_campaign_id,
        campaign_name as context_campaign_name,
        {{ json_texts('properties', [
            '$.channel',
            '$.send_id',
            '$.campaign_id',
            '$.campaign_name',
            '$.step',
            '$.email_id',
            '$.link_url',
            '$.machine_open',
            '$.bounce_type',
            '$.type',
            '$.status',
        ]) }} as fields
    from events
    where kind = 'message'

),

list_machine_agents as (

    select distinct read_properties.user_agent
    from read_properties
    inner join machine_user_agents
        on read_properties.user_agent like machine_user_agents.user_agent_pattern

),

emails as (

    select
        message_id,
        interaction,
        occurred_at,
        coalesce(user_id, anonymous_id) as person,
        coalesce(
            nullif(fields[2], ''),
            nullif(fields[6], ''),
            nullif(fields[3], ''),
            context_campaign_id
        ) as email
    from read_properties
    where implied_channel = 'email' and interaction in ('delivered', 'opened')

),

-- nobody opens an email seconds after it arrived; what does may hide its user agent
list_instant_opens as (

    select distinct opens.message_id
    from emails as opens
    inner join emails as deliveries
        on opens.person = deliveries.person and opens.email = deliveries.email
    cross join reach_rules
    where
        opens.interaction = 'opened'
        and deliveries.interaction = 'delivered'
        and opens.occurred_at >= deliveries.occurred_at
        and opens.occurred_at < {{ add_seconds(
            'deliveries.occurred_at', 'reach_rules.machine_open_seconds'
        ) }}

),

name_fields as (

    select
        read_properties.message_id,
        read_properties.anonymous_id,
        read_properties.user_id,
        read_properties.occurred_at,
        coalesce(channel_spellings.meaning, read_properties.implied_channel)
            as channel,
        case when channel_spellings.meaning is null then nullif(fields[1], '') end
            as unknown_channel,
        read_properties.interaction,
        sends.send_id,
        coalesce(nullif(fields[3], ''), context_campaign_id) as campaign_id,
        coalesce(nullif(fields[4], ''), context_campaign_name) as campaign_name,
        nullif(fields[5], '') as step,
        -- a send that is not ours is a mailing of another tool, to all its recipients
        coalesce(
            nullif(fields[6], ''),
            case when sends.send_id is null then nullif(fields[2], '') end
        ) as email_id,
        nullif(fields[7], '') as link_url,
        interaction in ('bounced', 'failed') and (
            is_soft_bounce
            or bounce_types.meaning is not null
            or coalesce(fields[11] like '4._%', false)
        ) as is_temporary,
        interaction = 'opened' and (
            coalesce(lower(fields[8]) = 'true', false)
            or list_machine_agents.user_agent is not null
            or list_instant_opens.message_id is not null
        ) as is_machine
    from read_properties
    left join sends on fields[2] = sends.send_id
    left join channel_spellings
        on {{ spelled('fields[1]') }} = channel_spellings.spelled
    left join bounce_types
        on
            {{ spelled("coalesce(fields[9], fields[10])") }} = bounce_types.spelled
            and read_properties.interaction in ('bounced', 'failed')
    left join list_machine_agents
        on read_properties.user_agent = list_machine_agents.user_agent
    left join list_instant_opens
        on read_properties.message_id = list_instant_opens.message_id

)

select * from name_fields
