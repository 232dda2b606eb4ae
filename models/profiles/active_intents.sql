-- One row per profile and kind of moment that it is in: the newest evidence, how old it
-- is, and where it happened.
with

intent_signals as (

    select * from {{ ref('intent_signals') }}

),

session_events as (

    select * from {{ ref('session_events') }}

),

sessions as (

    select * from {{ ref('sessions') }}

),

events as (

    select * from {{ ref('stg_events') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

intent_rules as (

    select * from {{ ref('intent_rules') }}

),

keep_fresh as (

    select
        intent_signals.profile_id,
        intent_signals.intent,
        intent_signals.message_id,
        session_events.session_id,
        session_events.occurred_at,
        session_events.surface,
        session_events.store_id,
        intent_rules.priority,
        cast(
            floor({{ seconds_between('session_events.occurred_at', 'run.as_of') }} / 60)
            as bigint
        ) as age_minutes,
        count(*) over (
            partition by intent_signals.profile_id, intent_signals.intent
        ) as signal_count
    from intent_signals
    inner join session_events
        on intent_signals.message_id = session_events.message_id
    inner join intent_rules on intent_signals.intent = intent_rules.intent
    cross join run
    where
        {{ seconds_between('session_events.occurred_at', 'run.as_of') }}
        <= 3600 * intent_rules.max_age_hours

),

keep_newest as (

    select * from keep_fresh
    qualify row_number() over (
        partition by profile_id, intent order by occurred_at desc, message_id desc
    ) = 1

),

describe_intents as (

    select
        keep_newest.profile_id,
        keep_newest.intent,
        keep_newest.priority,
        keep_newest.message_id as evidence_message_id,
        keep_newest.occurred_at,
        keep_newest.age_minutes,
        keep_newest.signal_count,
        keep_newest.session_id,
        keep_newest.surface,
        sessions.device_class,
        coalesce(events.country, sessions.country) as country,
        coalesce(events.city, sessions.city) as city,
        keep_newest.store_id
    from keep_newest
    inner join events on keep_newest.message_id = events.message_id
    inner join sessions on keep_newest.session_id = sessions.session_id

)

select * from describe_intents
