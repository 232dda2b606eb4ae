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

transactional_campaigns as (

    select * from {{ ref('transactional_campaigns') }}

),

message_classes as (

    select * from {{ spellings('consent_purpose') }}

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
            '$.machine_open',
            '$.bounce_type',
            '$.type',
            '$.status',
            '$.machine_click',
            '$.is_machine',
            '$.is_bot',
            '$.bot',
            '$.method',
            '$.request_method',
            '$.http_method',
            '$.purpose',
            '$.message_class',
        ]) }} as fields
    from events
    where kind = 'message'

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
            nullif(fields[2], ''),
            nullif(fields[6], ''),
            nullif(fields[3], ''),
            context_campaign_id
        ) as email,
        nullif(fields[7], '') as link_url
    from read_properties
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

list_machine_answers as (

    select message_id from list_instant_answers
    union
    select message_id from list_click_bursts

),

-- a tool that sends receipts rarely says that they are no advertising
list_transactional as (

    select distinct read_properties.message_id
    from read_properties
    inner join transactional_campaigns
        on
            ' ' || {{ words_in("coalesce(
                nullif(fields[4], ''),
                context_campaign_name,
                nullif(fields[3], ''),
                context_campaign_id
            )") }}
            like '% ' || transactional_campaigns.words || '%'

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
        coalesce(
            message_classes.meaning,
            case
                when list_transactional.message_id is null then 'marketing'
                else 'transactional'
            end
        ) as message_class,
        nullif(fields[5], '') as step,
        -- a send that is not ours is a mailing of another tool, to all its recipients
        coalesce(
            nullif(fields[6], ''),
            case when sends.send_id is null then nullif(fields[2], '') end
        ) as email_id,
        nullif(fields[7], '') as link_url,
        interaction in ('bounced', 'failed') and (
            is_soft_bounce
            or coalesce(
                bounce_types.meaning = 'temporary',
                fields[11] like '4._%',
                false
            )
        ) as is_temporary,
        interaction in ('opened', 'clicked') and (
            {%- for place in [8, 12, 13, 14, 15] %}
            lower(trim(coalesce(fields[{{ place }}], ''))) in ('true', '1', 'yes')
            or
            {%- endfor %}
            list_machine_agents.user_agent is not null
            or upper(coalesce(fields[16], fields[17], fields[18], 'GET')) = 'HEAD'
            or coalesce(lower(fields[19]) like '%prefetch%', false)
            or list_machine_answers.message_id is not null
        ) as is_machine
    from read_properties
    left join sends on fields[2] = sends.send_id
    left join channel_spellings
        on {{ spelled('fields[1]') }} = channel_spellings.spelled
    left join message_classes
        on
            {{ spelled('coalesce(fields[20], fields[19])') }}
            = message_classes.spelled
            and message_classes.meaning in ('marketing', 'transactional')
    left join list_transactional
        on read_properties.message_id = list_transactional.message_id
    left join bounce_types
        on
            {{ spelled("coalesce(fields[9], fields[10])") }} = bounce_types.spelled
            and read_properties.interaction in ('bounced', 'failed')
    left join list_machine_agents
        on read_properties.user_agent = list_machine_agents.user_agent
    left join list_machine_answers
        on read_properties.message_id = list_machine_answers.message_id

)

select * from name_fields
