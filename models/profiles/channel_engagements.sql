-- One row per profile and channel on which it was sent something: what it did with it.
-- Each message counts once, by the strongest sign that somebody was there.
with

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

threads as (

    select * from {{ ref('message_threads') }}

),

sessions as (

    select * from {{ ref('sessions') }}

),

session_campaigns as (

    select * from {{ ref('session_campaigns') }}

),

coupons as (

    select * from {{ ref('stg_coupons') }}
    where campaign_id is not null

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
        threads.profile_id,
        message_events.channel,
        threads.thread_id as message,
        min(message_events.campaign_id) as campaign_id,
        min(message_events.campaign_name) as campaign_name,
        min(message_events.occurred_at) as sent_at,
        {%- for name, condition in [
            ('sent', "interaction = 'sent'"),
            ('confirmed', "interaction in ('delivered', 'opened', 'clicked')"),
            ('failed', "interaction in ('bounced', 'failed')"),
        ] %}
        coalesce(bool_or(message_events.{{ condition }}), false) as is_{{ name }},
        {%- endfor %}
        {%- for name, condition in [
            (
                'fetched',
                "interaction in ('opened', 'clicked') and message_events.is_machine",
            ),
            ('opened', "interaction = 'opened' and not message_events.is_machine"),
            ('clicked', "interaction = 'clicked' and not message_events.is_machine"),
        ] %}
        max(
            case
                when message_events.{{ condition }}
                    then message_events.occurred_at
            end
        ) as {{ name }}_at{{ ',' if not loop.last }}
        {%- endfor %}
    from message_events
    inner join threads on message_events.message_id = threads.message_id
    group by 1, 2, 3

),

find_credited as (

    select
        messages.profile_id,
        messages.channel,
        messages.message,
        min(session_campaigns.occurred_at) as credited_at
    from gather_messages as messages
    cross join rules
    inner join session_campaigns
        on
            messages.profile_id = session_campaigns.profile_id
            and messages.sent_at < session_campaigns.occurred_at
            and coalesce(lower(session_campaigns.campaign_medium), messages.channel)
            = messages.channel
            and {{ is_same_campaign('session_campaigns', 'messages') }}
    where
        session_campaigns.occurred_at <= {{ add_seconds(
            'messages.sent_at', '3600 * rules.credited_hours'
        ) }}
    group by 1, 2, 3

),

find_followed as (

    select distinct
        messages.profile_id,
        messages.channel,
        messages.message
    from gather_messages as messages
    cross join rules
    inner join sessions
        on
            messages.profile_id = sessions.profile_id
            and messages.sent_at < sessions.started_at
            and coalesce(lower(sessions.campaign_medium), messages.channel)
            = messages.channel
            and sessions.campaign_id is null
            and sessions.campaign_name is null
    where
        sessions.started_at <= {{ add_seconds(
            'messages.sent_at', '3600 * rules.followed_hours'
        ) }}

),

-- who brings a campaign's coupon, however late, answers its newest message before
match_coupons as (

    select
        messages.profile_id,
        messages.channel,
        messages.message,
        coupon_events.occurred_at as redeemed_at
    from coupons
    inner join profile_events as coupon_events
        on coupons.message_id = coupon_events.message_id
    inner join gather_messages as messages
        on
            coupon_events.profile_id = messages.profile_id
            and lower(coupons.campaign_id) = lower(messages.campaign_id)
            and coupon_events.occurred_at > messages.sent_at
    qualify row_number() over (
        partition by coupons.message_id
        order by
            messages.sent_at desc, messages.channel asc, messages.message asc
    ) = 1

),

find_redeemed as (

    select
        profile_id,
        channel,
        message,
        min(redeemed_at) as redeemed_at
    from match_coupons
    group by 1, 2, 3

),

date_answers as (

    select
        gather_messages.*,
        least(find_credited.credited_at, find_redeemed.redeemed_at) as answered_at,
        find_followed.profile_id is not null as is_followed
    from gather_messages
    {%- for answer in ['find_credited', 'find_redeemed', 'find_followed'] %}
    left join {{ answer }}
        on
            gather_messages.profile_id = {{ answer }}.profile_id
            and gather_messages.channel = {{ answer }}.channel
            and gather_messages.message = {{ answer }}.message
    {%- endfor %}

),

judge_messages as (

    select
        messages.profile_id,
        messages.channel,
        messages.sent_at,
        messages.opened_at,
        coalesce(messages.clicked_at, messages.answered_at) as engaged_at,
        messages.is_confirmed or (
            messages.is_sent
            and not messages.is_failed
            and reporting_channels.channel is null
        ) as is_delivered,
        case
            when
                messages.clicked_at is not null
                or messages.answered_at is not null
                then 'engaged'
            when messages.is_followed then 'followed'
            when messages.opened_at is not null then 'opened'
            when messages.fetched_at is not null then 'machine_opened'
        end as evidence
    from date_answers as messages
    left join reporting_channels on messages.channel = reporting_channels.channel

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
