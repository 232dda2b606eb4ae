-- One row per profile with a device that gave its push token or advertising id: the
-- token to push to, and what speaks against it.
with

events as (

    select * from {{ ref('stg_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

list_sightings as (

    select
        profile_events.profile_id,
        case
            when events.kind = 'app'
                then {{ effective_time('true', 'stated_at', 'received_at') }}
            else profile_events.occurred_at
        end as occurred_at,
        events.message_id,
        events.device_token,
        events.advertising_id,
        coalesce(events.device_id, events.device_token) as device,
        coalesce(events.kind = 'app', false) as is_uninstall
    from events
    inner join profile_events on events.message_id = profile_events.message_id
    where
        events.kind = 'app'
        -- what happens to a message is no sign of life of the app
        or (
            events.kind is distinct from 'message'
            and (events.device_token is not null or events.advertising_id is not null)
        )

),

see_tokens as (

    select
        profile_id,
        device_token,
        device,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at
    from list_sightings
    where device_token is not null and not is_uninstall
    group by profile_id, device_token, device

),

find_newest_on_device as (

    select
        device,
        device_token,
        profile_id
    from list_sightings
    where device_token is not null and not is_uninstall
    qualify row_number() over (
        partition by device order by occurred_at desc, message_id desc
    ) = 1

),

find_uninstalls as (

    select
        see_tokens.profile_id,
        see_tokens.device_token,
        see_tokens.device,
        max(list_sightings.occurred_at) as uninstalled_at
    from see_tokens
    inner join list_sightings
        on
            see_tokens.profile_id = list_sightings.profile_id
            and see_tokens.device = coalesce(list_sightings.device, see_tokens.device)
    where list_sightings.is_uninstall
    group by see_tokens.profile_id, see_tokens.device_token, see_tokens.device

),

judge_tokens as (

    select
        see_tokens.*,
        case
            when find_uninstalls.uninstalled_at >= see_tokens.last_seen_at
                then 'app_uninstalled'
            when
                newest.device_token <> see_tokens.device_token
                or newest.profile_id <> see_tokens.profile_id
                then 'token_replaced'
            when
                {{ days_between('see_tokens.last_seen_at', 'run.as_of') }}
                >= rules.push_token_max_age_days
                then 'token_stale'
        end as token_problem
    from see_tokens
    inner join find_newest_on_device as newest on see_tokens.device = newest.device
    cross join run
    cross join rules
    left join find_uninstalls
        on
            see_tokens.profile_id = find_uninstalls.profile_id
            and see_tokens.device_token = find_uninstalls.device_token
            and see_tokens.device = find_uninstalls.device

),

choose_tokens as (

    select * from judge_tokens
    qualify row_number() over (
        partition by profile_id
        order by
            case when token_problem is null then 0 else 1 end asc,
            last_seen_at desc,
            device_token asc,
            device asc
    ) = 1

),

choose_advertising_ids as (

    select
        profile_id,
        max_by(advertising_id, (occurred_at, message_id)) as advertising_id
    from list_sightings
    where advertising_id is not null and not is_uninstall
    group by profile_id

),

join_addresses as (

    select
        coalesce(tokens.profile_id, choose_advertising_ids.profile_id) as profile_id,
        tokens.device_token,
        choose_advertising_ids.advertising_id,
        tokens.token_problem,
        tokens.first_seen_at as token_first_seen_at,
        tokens.last_seen_at as token_last_seen_at
    from choose_tokens as tokens
    full outer join choose_advertising_ids
        on tokens.profile_id = choose_advertising_ids.profile_id

)

select * from join_addresses
