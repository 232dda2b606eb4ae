-- One row per profile and moment at which the clock alone may move a person: silence
-- that lasted, and the day after a move that had to wait for its day.
with

run as (

    select * from {{ ref('stg_run') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

evidence as (

    select * from {{ ref('phase_evidence') }}

),

signals as (

    select * from {{ ref('phase_signals') }}

),

measure_silences as (

    select
        evidence.profile_id,
        evidence.message_id,
        evidence.occurred_at as silent_since,
        profiles.churn_cycle_days,
        least(
            {{ phase_rule('action_quiet_days') }}, profiles.churn_cycle_days
        ) as quiet_days,
        lead(evidence.occurred_at) over (
            partition by evidence.profile_id
            order by evidence.occurred_at asc, evidence.signal asc, evidence.message_id asc
        ) as next_activity_at
    from evidence
    inner join signals
        on evidence.signal = signals.signal and signals.is_activity
    inner join profiles on evidence.profile_id = profiles.profile_id

),

tick as (

    select
        profile_id,
        'quiet' as signal,
        message_id,
        {{ add_days('silent_since', 'quiet_days') }} as occurred_at,
        next_activity_at
    from measure_silences

    union all

    select
        profile_id,
        'silent' as signal,
        message_id,
        {{ add_days('silent_since', 'churn_cycle_days') }} as occurred_at,
        next_activity_at
    from measure_silences

    union all

    -- who fell from 4 to 3 that very day falls on a day later
    select
        profile_id,
        'silent' as signal,
        message_id,
        {{ add_days('silent_since', 'churn_cycle_days + 1') }} as occurred_at,
        next_activity_at
    from measure_silences

    union all

    select
        profile_id,
        case signal
            when 'misstep_resolved' then 'day_after_resolved' else 'day_after_proven'
        end as signal,
        message_id,
        {{ add_days("date_trunc('day', occurred_at)", '1') }} as occurred_at,
        cast(null as timestamp) as next_activity_at
    from evidence
    where signal in ('misstep_resolved', 'ordered', 'promoted')

),

keep_what_came as (

    select
        tick.profile_id,
        tick.signal,
        tick.message_id,
        tick.occurred_at
    from tick
    cross join run
    where
        tick.occurred_at <= run.as_of
        and (
            tick.next_activity_at is null
            or tick.occurred_at < tick.next_activity_at
        )

)

select * from keep_what_came
