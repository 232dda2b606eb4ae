-- One row per profile and channel on which it was sent something: what it did with it.
-- Each message counts once, by the strongest sign that somebody was there.
with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

sessions as (

    select * from {{ ref('sessions') }}

),

rules as (

    select * from {{ ref('reach_rules') }}

),

reporting_channels as (

    select distinct channel
    from {{ ref('stg_message_events') }}
    where interaction = 'delivered'

),

gather_messages as (

    select
        profile_events.profile_id,
        message_events.channel,
        coalesce(
            'send:' || message_events.send_id,
            'mail:' || message_events.email_id,
            'campaign:' || message_events.campaign_id || ':'
            || cast(cast(profile_events.occurred_at as date) as varchar),
            'message:' || message_events.message_id
        ) as message,
        min(message_events.campaign_id) as campaign_id,
        min(message_events.campaign_name) as campaign_name,
        min(profile_events.occurred_at) as sent_at,
        {%- for name, condition in [
            ('sent', "interaction = 'sent'"),
            ('confirmed', "interaction in ('delivered', 'opened', 'clicked')"),
            ('failed', "interaction in ('bounced', 'failed')"),
        ] %}
        coalesce(bool_or(message_events.{{ condition }}), false) as is_{{ name }},
        {%- endfor %}
        {%- for name, condition in [
            ('fetched', "interaction = 'opened' and message_events.is_machine"),
            ('opened', "interaction = 'opened' and not message_events.is_machine"),
            ('clicked', "interaction = 'clicked'"),
        ] %}
        max(
            case
                when message_events.{{ condition }}
                    then profile_events.occurred_at
            end
        ) as {{ name }}_at{{ ',' if not loop.last }}
        {%- endfor %}
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id
    where message_events.channel is not null
    group by 1, 2, 3

),

follow_messages as (

    select
        messages.profile_id,
        messages.channel,
        messages.message,
        min(
            case
                when
                    sessions.campaign_id = messages.campaign_id
                    or sessions.campaign_name = messages.campaign_name
                    then sessions.started_at
            end
        ) as credited_at,
        max(
            case
                when
                    sessions.campaign_id is null
                    and sessions.campaign_name is null
                    and sessions.started_at <= {{ add_seconds(
                        'messages.sent_at', '3600 * rules.followed_hours'
                    ) }}
                    then 1
            end
        ) as is_followed
    from gather_messages as messages
    cross join rules
    inner join sessions
        on
            messages.profile_id = sessions.profile_id
            and messages.sent_at < sessions.started_at
            and coalesce(lower(sessions.campaign_medium), messages.channel)
            = messages.channel
    where
        sessions.started_at <= {{ add_seconds(
            'messages.sent_at', '3600 * rules.credited_hours'
        ) }}
    group by 1, 2, 3

),

judge_messages as (

    select
        messages.profile_id,
        messages.channel,
        messages.sent_at,
        messages.opened_at,
        coalesce(messages.clicked_at, follow_messages.credited_at) as engaged_at,
        messages.is_confirmed or (
            messages.is_sent
            and not messages.is_failed
            and reporting_channels.channel is null
        ) as is_delivered,
        case
            when
                messages.clicked_at is not null
                or follow_messages.credited_at is not null
                then 'engaged'
            when follow_messages.is_followed = 1 then 'followed'
            when messages.opened_at is not null then 'opened'
            when messages.fetched_at is not null then 'machine_opened'
        end as evidence
    from gather_messages as messages
    left join reporting_channels on messages.channel = reporting_channels.channel
    left join follow_messages
        on
            messages.profile_id = follow_messages.profile_id
            and messages.channel = follow_messages.channel
            and messages.message = follow_messages.message

),

count_messages as (

    select
        profile_id,
        channel,
        count(*) as sent_count,
        count(case when is_delivered then 1 end) as delivered_count,
        count(case when evidence = 'engaged' then 1 end) as engaged_count,
        {%- for evidence in ['followed', 'opened', 'machine_opened'] %}
        count(case when evidence = '{{ evidence }}' and is_delivered then 1 end)
            as {{ evidence }}_count,
        {%- endfor %}
        max(sent_at) as last_sent_at,
        max(opened_at) as last_opened_at,
        max(engaged_at) as last_engaged_at
    from judge_messages
    group by profile_id, channel

)

select * from count_messages
