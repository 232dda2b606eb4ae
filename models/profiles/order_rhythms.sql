-- One row per profile and cutoff before which it ordered: how many days usually pass
-- between its orders, from the orders before the cutoff alone.
with

profile_events as (

    select * from {{ ref('profile_events') }}

),

activities as (

    select * from {{ ref('activities') }}

),

cutoffs as (

    select * from {{ ref('cutoffs') }}

),

measure_gaps as (

    select
        profile_events.profile_id,
        profile_events.occurred_at,
        {{ days_between(
            'lag(profile_events.occurred_at) over (
                partition by profile_events.profile_id
                order by profile_events.occurred_at asc, profile_events.message_id asc
            )',
            'profile_events.occurred_at'
        ) }} as gap_days
    from profile_events
    inner join activities on profile_events.message_id = activities.message_id
    where activities.activity in ('online_order', 'store_order')

),

take_median as (

    select
        measure_gaps.profile_id,
        cutoffs.cutoff_at,
        cast(median(measure_gaps.gap_days) as decimal(9, 1)) as days_between_orders
    from measure_gaps
    inner join cutoffs on measure_gaps.occurred_at < cutoffs.cutoff_at
    group by measure_gaps.profile_id, cutoffs.cutoff_at

)

select * from take_median
