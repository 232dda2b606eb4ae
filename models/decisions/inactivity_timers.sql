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

list_active_days as (

    select
        evidence.profile_id,
        cast(evidence.occurred_at as date) as active_on,
        min(evidence.occurred_at) as first_at,
        max({{ make_struct({
            'occurred_at': 'evidence.last_occurred_at',
            'message_id': 'evidence.last_message_id',
        }) }}) as last_activity
    from evidence
    inner join signals
        on evidence.signal = signals.signal and signals.is_activity
    group by 1, 2

),

measure_silences as (

    select
        list_active_days.profile_id,
        list_active_days.last_activity.message_id,
        list_active_days.last_activity.occurred_at as silent_since,
        profiles.churn_cycle_days,
        least(
            {{ phase_rule('action_quiet_days') }}, profiles.churn_cycle_days
        ) as quiet_days,
        lead(list_active_days.first_at) over (
            partition by list_active_days.profile_id
            order by list_active_days.active_on asc
        ) as next_activity_at
    from list_active_days
    inner join profiles on list_active_days.profile_id = profiles.profile_id

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
