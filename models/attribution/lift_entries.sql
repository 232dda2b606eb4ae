-- One row per profile and journey it entered, and one for its first journey of all.
with

enrollments as (

    select * from {{ ref('enrollments') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

find_first_entries as (

    select
        journey,
        profile_id,
        entered_at,
        assignment = 'treated' as is_treated
    from enrollments
    qualify row_number() over (
        partition by journey, profile_id
        order by entered_at asc nulls last, enrollment_id asc nulls last
    ) = 1

),

-- a holdout of one journey is messaged by the others: only those that none of them
-- messages are control of the whole
find_first_entries_of_all as (

    select
        'all' as journey,
        profile_id,
        entered_at,
        assignment <> 'global_control' as is_treated
    from enrollments
    qualify row_number() over (
        partition by profile_id
        order by entered_at asc nulls last, enrollment_id asc nulls last
    ) = 1

),

unite_entries as (

    select * from find_first_entries
    union all
    select * from find_first_entries_of_all

),

add_horizon as (

    select
        unite_entries.journey,
        unite_entries.profile_id,
        unite_entries.is_treated,
        unite_entries.entered_at,
        {{ add_days(
            'unite_entries.entered_at', 'attribution_rules.lift_horizon_days'
        ) }}
            as horizon_ends_at
    from unite_entries
    cross join attribution_rules

)

select * from add_horizon
