-- One row per message that reached a person.
with

message_interactions as (

    select * from {{ ref('message_interactions') }}

),

lookback_windows as (

    select * from {{ ref('lookback_windows') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

gather_messages as (

    select
        touchpoint_id,
        -- a forwarded mail is opened by another person; its recipient was touched
        coalesce(
            min(profile_id) filter (where interaction in ('sent', 'delivered')),
            min(profile_id)
        ) as profile_id,
        min(channel) as channel,
        coalesce(min(campaign_name), min(campaign_id)) as campaign,
        min(campaign_id) as campaign_id,
        min(case when send_id is not null then campaign_id end) as journey,
        min(case when send_id is not null then step end) as step,
        min(send_id) as send_id,
        min(occurred_at) filter (where depth > 0) as touched_at,
        max(depth) as depth,
        max(case when interaction in ('bounced', 'failed') then 1 else 0 end) = 1
            as is_bounced
    from message_interactions
    group by touchpoint_id

),

keep_those_that_arrived as (

    select
        gather_messages.touchpoint_id,
        gather_messages.profile_id,
        gather_messages.channel,
        gather_messages.campaign,
        gather_messages.campaign_id,
        gather_messages.journey,
        gather_messages.step,
        gather_messages.send_id,
        gather_messages.touched_at,
        {{ add_days('gather_messages.touched_at', 'coalesce(run.lookback_days, '
            ~ 'lookback_windows.lookback_days, attribution_rules.lookback_days)') }}
            as expires_at,
        case gather_messages.depth
            when 3 then 'clicked'
            when 2 then 'opened'
            else 'delivered'
        end as interaction
    from gather_messages
    cross join attribution_rules
    cross join run
    left join lookback_windows on gather_messages.channel = lookback_windows.channel
    where
        gather_messages.depth >= 2
        or (gather_messages.depth = 1 and not gather_messages.is_bounced)

)

select * from keep_those_that_arrived
