-- One row per profile and cutoff from which it is looked back at: everybody seen before
-- `as_of`, and before the training cutoffs a sample that is the same at each.
with

activity_hours as (

    select * from {{ ref('activity_hours') }}

),

cutoffs as (

    select * from {{ ref('cutoffs') }}

),

find_beginnings as (

    select
        profile_id,
        min(first_seen_at) as first_seen_at
    from activity_hours
    group by profile_id

),

draw_sample as (

    select
        profile_id,
        first_seen_at,
        row_number() over (order by profile_id asc)
        <= {{ var('training_profiles') }} as is_in_sample
    from find_beginnings

),

list_profile_cutoffs as (

    select
        draw_sample.profile_id,
        cutoffs.cutoff_at,
        cutoffs.is_training
    from draw_sample
    inner join cutoffs on draw_sample.first_seen_at < cutoffs.cutoff_at
    where draw_sample.is_in_sample or not cutoffs.is_training

)

select * from list_profile_cutoffs
