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

channel_spellings as (

    select * from {{ spellings('channel') }}
    where meaning <> 'all'

),

bounce_types as (

    select * from {{ spellings('bounce_type') }}

),

machine_flags as (

    select * from {{ spellings('machine_flag') }}

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
        coalesce(
            user_agent,
            {{ json_text('properties', '$.user_agent') }},
            {{ json_text('properties', '$.userAgent') }}
        ) as user_agent,
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
            '$.bounce_type',
            '$.type',
            '$.status',
            '$.method',
            '$.request_method',
            '$.http_method',
            '$.purpose',
            '$."client-info".bot',
        ]) }} as fields,
        properties,
        is_bot
    from events
    where kind = 'message'

),

name_messages as (

    select
        *,
        {{ known_name('fields[2]') }} as stated_send_id,
        {{ known_name('fields[3]', 'any') }} as stated_campaign_id,
        {{ known_name('fields[4]', 'any') }} as stated_campaign_name,
        {{ known_name('fields[6]') }} as stated_email_id
    from read_properties

),

-- what was sent by us has a message of that very id; what another tool calls a send may
-- be one campaign to everybody
sends as (

    select message_id as send_id
    from read_properties
    where interaction = 'sent' and fields[2] = message_id

),

list_machine_agents as (

    select distinct read_properties.user_agent
    from read_properties
    inner join machine_user_agents
        on
            lower(read_properties.user_agent)
            like lower(machine_user_agents.user_agent_pattern)

),

emails as (

    select
        message_id,
        interaction,
        occurred_at,
        coalesce(user_id, anonymous_id) as person,
        coalesce(
            stated_send_id, stated_email_id, stated_campaign_id, context_campaign_id
        ) as email,
        nullif(fields[7], '') as link_url
    from name_messages
    where
        implied_channel = 'email'
        and interaction in ('sent', 'delivered', 'opened', 'clicked')

),

-- nobody answers an email seconds after it arrived; what does may hide its user agent
list_instant_answers as (

    select answers.message_id
    from emails as answers
    inner join emails as arrivals
        on answers.person = arrivals.person and answers.email = arrivals.email
    cross join reach_rules
    where
        answers.interaction in ('opened', 'clicked')
        and arrivals.interaction in ('sent', 'delivered')
        and answers.occurred_at < {{ add_seconds(
            'arrivals.occurred_at', 'reach_rules.machine_open_seconds'
        ) }}
        -- a gateway looks at the links before it delivers
        and answers.occurred_at >= case arrivals.interaction
            when 'sent' then arrivals.occurred_at
            else {{ add_seconds(
                'arrivals.occurred_at', '-reach_rules.machine_open_seconds'
            ) }}
        end

),

-- nor does anybody follow many links of one email at once
list_click_bursts as (

    select clicks.message_id
    from emails as clicks
    inner join emails as others
        on clicks.person = others.person and clicks.email = others.email
    cross join reach_rules
    where
        clicks.interaction = 'clicked'
        and others.interaction = 'clicked'
        and others.occurred_at >= {{ add_seconds(
            'clicks.occurred_at', '-reach_rules.machine_click_seconds'
        ) }}
        and others.occurred_at <= {{ add_seconds(
            'clicks.occurred_at', 'reach_rules.machine_click_seconds'
        ) }}
    group by clicks.message_id
    having count(distinct others.link_url) >= max(reach_rules.machine_click_links)

),

list_flag_keys as (

    select
        key_lists.keys,
        {{ json_pointer('key_lists.found_key') }} as place,
        machine_flags.meaning = 'human' as is_of_humans
    from (
        select
            keys,
            {{ unnest_items('keys') }} as found_key
        from (
            select distinct json_keys(properties) as keys
            from read_properties
        ) as distinct_keys
    ) as key_lists
    inner join machine_flags
        on {{ spelled('key_lists.found_key') }} = machine_flags.spelled

),

read_flags as (

    select
        read_properties.message_id,
        list_flag_keys.is_of_humans,
        {{ json_text_at('read_properties.properties', 'list_flag_keys.place') }} as flag
    from read_properties
    inner join list_flag_keys
        on json_keys(read_properties.properties) = list_flag_keys.keys

),

list_flagged as (

    select distinct message_id
    from read_flags
    where flag <> '' and {{ is_flagged('flag') }} <> is_of_humans

),

list_machine_answers as (

    select message_id from list_instant_answers
    union
    select message_id from list_click_bursts
    union
    select message_id from list_flagged

),

name_fields as (

    select
        name_messages.message_id,
        name_messages.anonymous_id,
        name_messages.user_id,
        name_messages.occurred_at,
        coalesce(channel_spellings.meaning, name_messages.implied_channel)
            as channel,
        case when channel_spellings.meaning is null then nullif(fields[1], '') end
            as unknown_channel,
        name_messages.interaction,
        sends.send_id,
        coalesce(stated_campaign_id, context_campaign_id) as campaign_id,
        coalesce(stated_campaign_name, context_campaign_name) as campaign_name,
        nullif(fields[5], '') as step,
        -- a send that is not ours is a mailing of another tool, to all its recipients
        coalesce(
            stated_email_id,
            case when sends.send_id is null then stated_send_id end
        ) as email_id,
        nullif(fields[7], '') as link_url,
        interaction in ('bounced', 'failed') and (
            is_soft_bounce
            or coalesce(
                bounce_types.meaning = 'temporary',
                fields[10] like '4._%',
                false
            )
        ) as is_temporary,
        interaction in ('opened', 'clicked') and (
            name_messages.is_bot
            or {{ is_flagged('fields[15]') }}
            or list_machine_agents.user_agent is not null
            or upper(coalesce(fields[11], fields[12], fields[13], 'GET')) = 'HEAD'
            or coalesce(lower(fields[14]) like '%prefetch%', false)
            or list_machine_answers.message_id is not null
        ) as is_machine
    from name_messages
    left join sends on fields[2] = sends.send_id
    left join channel_spellings
        on {{ spelled('fields[1]') }} = channel_spellings.spelled
    left join bounce_types
        on
            {{ spelled("coalesce(fields[8], fields[9])") }} = bounce_types.spelled
            and name_messages.interaction in ('bounced', 'failed')
    left join list_machine_agents
        on name_messages.user_agent = list_machine_agents.user_agent
    left join list_machine_answers
        on name_messages.message_id = list_machine_answers.message_id

)

select * from name_fields
