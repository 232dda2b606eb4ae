-- One row per session that starts from a campaign.
with

sessions as (

    select * from {{ ref('sessions') }}

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

find_campaign_sessions as (

    select
        session_id,
        profile_id,
        campaign_name,
        campaign_id,
        started_at,
        coalesce(
            nullif(replace(replace(lower(campaign_medium), '-', '_'), ' ', '_'), ''),
            nullif(replace(replace(lower(campaign_source), '-', '_'), ' ', '_'), ''),
            'other'
        ) as channel
    from sessions
    where coalesce(campaign_name, campaign_id, campaign_medium, campaign_source)
        is not null

),

add_lookback as (

    select
        {{ surrogate_key(["'session'", 'campaign_sessions.session_id']) }}
            as touchpoint_id,
        campaign_sessions.session_id,
        campaign_sessions.profile_id,
        campaign_sessions.channel,
        campaign_sessions.campaign_name,
        campaign_sessions.campaign_id,
        campaign_sessions.started_at as touched_at,
        {{ add_days('campaign_sessions.started_at', 'coalesce(run.lookback_days, '
            ~ 'lookback_windows.lookback_days, attribution_rules.lookback_days)') }}
            as expires_at
    from find_campaign_sessions as campaign_sessions
    cross join attribution_rules
    cross join run
    left join lookback_windows
        on campaign_sessions.channel = lookback_windows.channel

)

select * from add_lookback
