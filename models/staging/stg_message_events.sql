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

read_properties as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        stated_at,
        received_at,
        case when action like '%_bounced' then 'bounced' else action end
            as interaction,
        action,
        implied_channel,
        coalesce(
            device_token,
            {{ json_text('properties', '$.device_token') }},
            {{ json_text('properties', '$.push_token') }},
            {{ json_text('properties', '$.token') }}
        ) as device_token,
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
        ]) }} as fields,
        properties
    from events
    where kind = 'message'

),

failure_keys as (

    select * from {{ spellings('failure_key') }}

),

refusal_reasons as (

    select {{ words_in('spelling') }} as words
    from {{ ref('spellings') }}
    where field = 'refusal_reason'

),

list_failures as (

    select
        message_id,
        unnest(json_keys(properties)) as key,
        unnest(json_extract_string(properties, '$.*')) as value
    from read_properties
    where interaction in ('bounced', 'failed')

),

describe_failures as (

    select
        list_failures.message_id,
        {{ ordered_list('list_failures.value', 'list_failures.key asc') }} as details
    from list_failures
    inner join failure_keys
        on {{ spelled('list_failures.key') }} = failure_keys.spelled
    group by list_failures.message_id

),

-- failures that a tool brings about itself, for it knows that the person said no
find_refusals as (

    select distinct describe_failures.message_id
    from describe_failures
    inner join refusal_reasons
        on
            ' ' || {{ words_in(joined_list('describe_failures.details', ' ')) }} || ' '
            like '% ' || refusal_reasons.words || ' %'

),

read_failures as (

    select
        read_properties.message_id,
        {%- for name, form in [
            ('permanent', '5[.][0-9]{1,3}[.][0-9]{1,3}'),
            ('passing', '[24][.][0-9]{1,3}[.][0-9]{1,3}'),
            ('basic', '5[0-9]{2}'),
        ] %}
        nullif({{ smtp_status(
            joined_list('max(describe_failures.details)', ' '), form
        ) }}, '') as {{ name }}_status,
        {%- endfor %}
        coalesce(bool_or(bounce_types.meaning = 'temporary'), false) as is_called_soft,
        coalesce(bool_or(bounce_types.meaning = 'permanent'), false) as is_called_hard
    from read_properties
    left join describe_failures
        on read_properties.message_id = describe_failures.message_id
    left join bounce_types
        on
            bounce_types.spelled
            in ({{ spelled('fields[9]') }}, {{ spelled('fields[10]') }})
    where read_properties.interaction in ('bounced', 'failed')
    group by read_properties.message_id

),

-- a failure passes if one sign says so and none that it stays; a mailbox that is full
-- (5.2.2) and a sender that is refused (5.7) may pass
find_temporary as (

    select read_properties.message_id
    from read_properties
    inner join read_failures on read_properties.message_id = read_failures.message_id
    where
        (
            read_properties.action = 'soft_bounced'
            or read_failures.is_called_soft
            or read_properties.fields[11] like '4._%'
        )
        and read_properties.action <> 'hard_bounced'
        and not read_failures.is_called_hard
        and (
            read_failures.permanent_status is null
            or read_failures.permanent_status = '5.2.2'
            or read_failures.permanent_status like '5.7.%'
        )
        and (
            read_failures.basic_status is null
            or read_failures.permanent_status is not null
            or read_failures.passing_status is not null
        )

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

name_fields as (

    select
        read_properties.message_id,
        read_properties.anonymous_id,
        read_properties.user_id,
        read_properties.occurred_at,
        {{ effective_time(
            "interaction in ('bounced', 'failed', 'complained', 'unsubscribed')",
            'stated_at',
            'received_at'
        ) }} as effective_at,
        coalesce(channel_spellings.meaning, read_properties.implied_channel)
            as channel,
        case when channel_spellings.meaning is null then nullif(fields[1], '') end
            as unknown_channel,
        read_properties.interaction,
        read_properties.device_token,
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
        find_temporary.message_id is not null as is_temporary,
        find_refusals.message_id is not null as is_refusal,
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
    left join find_temporary
        on read_properties.message_id = find_temporary.message_id
    left join find_refusals
        on read_properties.message_id = find_refusals.message_id
    left join list_machine_agents
        on read_properties.user_agent = list_machine_agents.user_agent
    left join list_machine_answers
        on read_properties.message_id = list_machine_answers.message_id

)

select * from name_fields
