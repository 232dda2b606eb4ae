-- One row per campaign that led into a session, each time that it did so anew: at its
-- start, or by an ad in the midst of it.
with

session_events as (

    select * from {{ ref('session_events') }}

),

events as (

    select * from {{ ref('stg_events') }}

),

payment_providers as (

    select * from {{ ref('payment_providers') }}

),

list_payment_referrals as (

    select distinct
        events.campaign_source,
        events.campaign_medium
    from events
    inner join payment_providers
        on
            lower(events.campaign_source)
            like '%' || payment_providers.provider || '%'
    where lower(events.campaign_medium) = 'referral'

),

-- who comes back from paying, or by no way at all, follows no campaign
find_named as (

    select
        session_events.session_id,
        session_events.profile_id,
        session_events.message_id,
        session_events.occurred_at,
        events.campaign_name,
        events.campaign_id,
        events.campaign_source,
        events.campaign_medium,
        events.campaign_content,
        {{ surrogate_key([
            'lower(events.campaign_name)',
            'lower(events.campaign_id)',
            'lower(events.campaign_source)',
            'lower(events.campaign_medium)',
        ]) }} as campaign
    from session_events
    inner join events on session_events.message_id = events.message_id
    left join list_payment_referrals as payment_referrals
        on
            events.campaign_source = payment_referrals.campaign_source
            and events.campaign_medium = payment_referrals.campaign_medium
    where
        coalesce(
            events.campaign_name,
            events.campaign_id,
            events.campaign_medium,
            events.campaign_source
        ) is not null
        and coalesce(lower(events.campaign_source), '') not in ('(direct)', 'direct')
        and payment_referrals.campaign_source is null

),

look_back as (

    select
        *,
        lag(campaign) over (
            partition by session_id order by occurred_at asc, message_id asc
        ) as previous_campaign
    from find_named

),

keep_arrivals as (

    select
        message_id,
        session_id,
        profile_id,
        occurred_at,
        campaign_name,
        campaign_id,
        campaign_source,
        campaign_medium,
        campaign_content
    from look_back
    where campaign is distinct from previous_campaign

)

select * from keep_arrivals
