-- One row per thing that happened to a message to a customer.
with

events as (

    select * from {{ ref('stg_events') }}

),

machine_user_agents as (

    select * from {{ ref('machine_user_agents') }}

),

read_properties as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action as interaction,
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

name_fields as (

    select
        read_properties.message_id,
        read_properties.anonymous_id,
        read_properties.user_id,
        read_properties.occurred_at,
        coalesce(
            nullif(replace(replace(lower(fields[1]), '-', '_'), ' ', '_'), ''),
            implied_channel
        ) as channel,
        read_properties.interaction,
        nullif(fields[2], '') as send_id,
        coalesce(nullif(fields[3], ''), context_campaign_id) as campaign_id,
        coalesce(nullif(fields[4], ''), context_campaign_name) as campaign_name,
        nullif(fields[5], '') as step,
        nullif(fields[6], '') as email_id,
        nullif(fields[7], '') as link_url,
        interaction in ('bounced', 'failed') and coalesce(
            lower(coalesce(fields[9], fields[10]))
            in ('soft', 'transient', 'temporary', 'blocked', 'deferred')
            or fields[11] like '4._%',
            false
        ) as is_temporary,
        interaction = 'opened' and (
            coalesce(lower(fields[8]) = 'true', false)
            or list_machine_agents.user_agent is not null
        ) as is_machine
    from read_properties
    left join list_machine_agents
        on read_properties.user_agent = list_machine_agents.user_agent

)

select * from name_fields
