-- One row per campaign that led into a session.
with

session_campaigns as (

    select * from {{ ref('session_campaigns') }}

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

name_channels as (

    select
        message_id,
        session_id,
        profile_id,
        campaign_name,
        campaign_id,
        occurred_at as touched_at,
        coalesce(
            nullif(replace(replace(lower(campaign_medium), '-', '_'), ' ', '_'), ''),
            nullif(replace(replace(lower(campaign_source), '-', '_'), ' ', '_'), ''),
            'other'
        ) as channel
    from session_campaigns

),

add_lookback as (

    select
        {{ surrogate_key(["'session'", 'name_channels.message_id']) }}
            as touchpoint_id,
        name_channels.session_id,
        name_channels.profile_id,
        name_channels.channel,
        name_channels.campaign_name,
        name_channels.campaign_id,
        name_channels.touched_at,
        {{ add_days('name_channels.touched_at', 'coalesce(run.lookback_days, '
            ~ 'lookback_windows.lookback_days, attribution_rules.lookback_days)') }}
            as expires_at
    from name_channels
    cross join attribution_rules
    cross join run
    left join lookback_windows
        on name_channels.channel = lookback_windows.channel

)

select * from add_lookback
