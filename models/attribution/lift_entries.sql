-- One row per profile and journey it entered, one for its first marketing journey of
-- all, and one per experiment it was part of: the arm, and why it does not count where
-- it does not.
with

enrollments as (

    select * from {{ ref('enrollments') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

sends as (

    select * from {{ ref('stg_sends') }}

),

decisions as (

    select * from {{ ref('decisions') }}

),

experiment_exposures as (

    select * from {{ ref('experiment_exposures') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

-- whom a journey would not have written to anyway is left out of both arms alike: in
-- the control group it had to be nothing else that kept the message back
find_contacts as (

    select
        enrollment_id,
        as_of
    from sends
    where state in ('pending', 'inflight', 'sent', 'unknown')
    union all
    select
        enrollment_id,
        as_of
    from decisions
    where
        reason in ('global_control', 'holdout')
        -- before it was logged
        and coalesce(is_withheld, true)

),

find_first_contacts as (

    select
        enrollment_id,
        min(as_of) as contacted_at
    from find_contacts
    group by enrollment_id

),

place_entries as (

    select
        enrollments.enrollment_id,
        enrollments.journey,
        enrollments.profile_id,
        enrollments.assignment,
        enrollments.entered_at,
        coalesce(journeys.message_class, 'marketing') as message_class,
        {{ add_days('enrollments.entered_at', 'attribution_rules.lift_horizon_days') }}
            as horizon_ends_at,
        find_first_contacts.contacted_at
    from enrollments
    cross join attribution_rules
    left join journeys on enrollments.journey = journeys.journey
    left join find_first_contacts
        on enrollments.enrollment_id = find_first_contacts.enrollment_id

),

-- a holdout of one journey is messaged by the others: only those that none of them
-- messages are control of the whole. A transactional journey spares nobody.
list_entries as (

    select
        journey as trial,
        enrollment_id,
        profile_id,
        assignment <> 'treated' as is_control,
        entered_at,
        horizon_ends_at,
        coalesce(contacted_at <= horizon_ends_at, false) as is_contacted
    from place_entries
    union all
    select
        'all' as trial,
        enrollment_id,
        profile_id,
        assignment = 'global_control' as is_control,
        entered_at,
        horizon_ends_at,
        assignment <> 'holdout'
        and coalesce(contacted_at <= horizon_ends_at, false) as is_contacted
    from place_entries
    where message_class = 'marketing'

),

find_first_entries as (

    select * from list_entries
    qualify row_number() over (
        partition by trial, profile_id
        order by
            is_contacted desc, entered_at asc nulls last, enrollment_id asc nulls last
    ) = 1

),

judge_entries as (

    select
        'journey' as trial_type,
        find_first_entries.trial,
        find_first_entries.profile_id,
        case when find_first_entries.is_control then 'control' else 'treated' end
            as arm,
        find_first_entries.is_control,
        find_first_entries.entered_at,
        find_first_entries.horizon_ends_at,
        case
            when find_first_entries.horizon_ends_at > run.as_of then 'horizon_open'
            when not find_first_entries.is_contacted then 'not_written_to'
        end as exclusion_reason
    from find_first_entries
    cross join run
    union all
    select
        'experiment' as trial_type,
        experiment as trial,
        profile_id,
        variation as arm,
        coalesce(is_control, false) as is_control,
        exposed_at as entered_at,
        horizon_ends_at,
        exclusion_reason
    from experiment_exposures

)

select * from judge_entries
