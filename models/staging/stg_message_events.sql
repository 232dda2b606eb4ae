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

machine_flags as (

    select * from {{ spellings('machine_flag') }}

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
        device_token as context_device_token,
        user_agent as context_user_agent,
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
            '$.device_token',
            '$.push_token',
            '$.token',
            '$.user_agent',
            '$.userAgent',
            '$.message_class',
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
        {{ known_name('fields[6]') }} as stated_email_id,
        coalesce(context_device_token, fields[16], fields[17], fields[18])
            as device_token,
        coalesce(context_user_agent, fields[19], fields[20]) as user_agent,
        coalesce(
            nullif(fields[4], ''),
            context_campaign_name,
            nullif(fields[3], ''),
            context_campaign_id
        ) as campaign
    from read_properties

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
            in ({{ spelled('fields[8]') }}, {{ spelled('fields[9]') }})
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
            or read_properties.fields[10] like '4._%'
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

    select distinct name_messages.user_agent
    from name_messages
    inner join machine_user_agents
        on
            lower(name_messages.user_agent)
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

read_answer_keys as (

    select
        message_id,
        properties,
        json_keys(properties) as keys
    from read_properties
    where interaction in ('opened', 'clicked')

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
            select distinct keys from read_answer_keys
        ) as distinct_keys
    ) as key_lists
    inner join machine_flags
        on {{ spelled('key_lists.found_key') }} = machine_flags.spelled

),

read_flags as (

    select
        read_answer_keys.message_id,
        list_flag_keys.is_of_humans,
        {{ json_text_at('read_answer_keys.properties', 'list_flag_keys.place') }}
            as flag
    from read_answer_keys
    inner join list_flag_keys on read_answer_keys.keys = list_flag_keys.keys

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

-- a tool that sends receipts rarely says that they are no advertising
list_transactional as (

    select distinct campaigns.campaign
    from (
        select distinct campaign from name_messages
    ) as campaigns
    inner join transactional_campaigns
        on
            ' ' || {{ words_in('campaigns.campaign') }}
            like '% ' || transactional_campaigns.words || '%'

),

name_fields as (

    select
        name_messages.message_id,
        name_messages.anonymous_id,
        name_messages.user_id,
        name_messages.occurred_at,
        {{ effective_time(
            "interaction in ('bounced', 'failed', 'complained', 'unsubscribed')",
            'stated_at',
            'received_at'
        ) }} as effective_at,
        coalesce(channel_spellings.meaning, name_messages.implied_channel)
            as channel,
        case when channel_spellings.meaning is null then nullif(fields[1], '') end
            as unknown_channel,
        name_messages.interaction,
        name_messages.device_token,
        sends.send_id,
        coalesce(stated_campaign_id, context_campaign_id) as campaign_id,
        coalesce(stated_campaign_name, context_campaign_name) as campaign_name,
        coalesce(
            message_classes.meaning,
            case
                when list_transactional.campaign is null then 'marketing'
                else 'transactional'
            end
        ) as message_class,
        nullif(fields[5], '') as step,
        -- a send that is not ours is a mailing of another tool, to all its recipients
        coalesce(
            stated_email_id,
            case when sends.send_id is null then stated_send_id end
        ) as email_id,
        nullif(fields[7], '') as link_url,
        find_temporary.message_id is not null as is_temporary,
        find_refusals.message_id is not null as is_refusal,
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
    left join find_temporary
        on name_messages.message_id = find_temporary.message_id
    left join find_refusals
        on name_messages.message_id = find_refusals.message_id
    left join message_classes
        on
            {{ spelled('coalesce(fields[21], fields[14])') }}
            = message_classes.spelled
            and message_classes.meaning in ('marketing', 'transactional')
    left join list_transactional
        on name_messages.campaign = list_transactional.campaign
    left join list_machine_agents
        on name_messages.user_agent = list_machine_agents.user_agent
    left join list_machine_answers
        on name_messages.message_id = list_machine_answers.message_id

)

select * from name_fields
