-- One row per active enrollment and step that asks for something: whether it holds now.
with

run as (

    select * from {{ ref('stg_run') }}

),

conditions as (

    select * from {{ ref('stg_conditions') }}
    where place = 'step' and kind <> 'without'

),

-- who turns out to be one person with another keeps the draw of the first entry
progress as (

    select
        *,
        first_value(entry_profile_id) over (
            partition by profile_id, journey
            order by entered_at asc, enrollment_id asc
        ) as drawn_profile_id
    from {{ ref('enrollment_progress') }}

),

active_enrollments as (

    select * from {{ ref('enrollments') }}
    where state = 'active'

),

facts as (

    select * from {{ ref('condition_facts') }}
    where place = 'step'

),

condition_events as (

    select * from {{ ref('condition_events') }}
    where place = 'step'

),

sends as (

    select
        sends.enrollment_id,
        sends.send_id,
        step_places.current_step as step
    from {{ ref('stg_sends') }} as sends
    inner join {{ ref('step_places') }} as step_places
        on
            sends.journey = step_places.journey
            and sends.step = step_places.step
            and {{ named_then('step_places', 'sends.as_of') }}
    where sends.state in ('pending', 'inflight', 'sent', 'unknown')

),

-- an open is read only of who agreed to that
trackable as (

    select distinct profile_id from {{ ref('consents') }}
    where purpose = 'open_tracking' and status = 'granted'

),

reactions as (

    select
        send_id,
        interaction
    from {{ ref('stg_message_events') }}
    where
        interaction in ('opened', 'clicked')
        and not is_machine
        and send_id is not null

),

ask_enrollments as (

    select
        conditions.*,
        progress.enrollment_id,
        progress.profile_id,
        progress.drawn_profile_id,
        progress.evidence_at
    from conditions
    inner join progress on conditions.journey = progress.journey
    inner join active_enrollments
        on progress.enrollment_id = active_enrollments.enrollment_id

),

count_events as (

    select
        asked.enrollment_id,
        asked.step,
        asked.alternative,
        asked.test,
        count(*) as event_count
    from ask_enrollments as asked
    cross join run
    inner join condition_events
        on
            asked.journey = condition_events.journey
            and asked.step = condition_events.step
            and asked.alternative = condition_events.alternative
            and asked.test = condition_events.test
            and asked.profile_id = condition_events.profile_id
            and asked.evidence_at < condition_events.occurred_at
            and (
                asked.within_seconds is null
                or {{ add_seconds(
                    'condition_events.occurred_at', 'asked.within_seconds'
                ) }} > run.as_of
            )
    group by asked.enrollment_id, asked.step, asked.alternative, asked.test

),

judge_tests as (

    select
        asked.*,
        case
            when asked.kind = 'event'
                then coalesce(count_events.event_count, 0) >= asked.minimum_count
            when asked.kind = 'draw'
                then
                    {{ unit_interval("asked.name || '␟' || asked.drawn_profile_id") }}
                    >= asked.minimum_value
                    and {{ unit_interval(
                        "asked.name || '␟' || asked.drawn_profile_id"
                    ) }} < asked.maximum_value
            when asked.kind = 'arm'
                then not exists (
                    select 1 from sends
                    inner join conditions as others
                        on
                            sends.step = others.step
                            and others.kind = 'arm'
                    where
                        sends.enrollment_id = asked.enrollment_id
                        and others.journey = asked.journey
                        and others.name = asked.name
                        and others.names <> asked.names
                )
            when asked.kind in ('sent', 'opened', 'clicked')
                then exists (
                    select 1 from sends
                    left join reactions
                        on
                            sends.send_id = reactions.send_id
                            and reactions.interaction = asked.kind
                    where
                        sends.enrollment_id = asked.enrollment_id
                        and sends.step = asked.name
                        and (
                            asked.kind = 'sent'
                            or reactions.send_id is not null
                        )
                )
                and (
                    asked.kind <> 'opened'
                    or asked.profile_id in (select trackable.profile_id from trackable)
                )
            else exists (
                select 1 from facts
                where
                    facts.journey = asked.journey
                    and facts.step = asked.step
                    and facts.alternative = asked.alternative
                    and facts.test = asked.test
                    and facts.profile_id = asked.profile_id
            )
        end as is_passed
    from ask_enrollments as asked
    left join count_events
        on
            asked.enrollment_id = count_events.enrollment_id
            and asked.step = count_events.step
            and asked.alternative = count_events.alternative
            and asked.test = count_events.test

),

judge_alternatives as (

    select
        enrollment_id,
        step,
        alternative,
        bool_and(is_passed <> is_negated) as holds
    from judge_tests
    group by enrollment_id, step, alternative

),

judge_steps as (

    select
        enrollment_id,
        step,
        bool_or(holds) as is_met
    from judge_alternatives
    group by enrollment_id, step

)

select * from judge_steps
