-- One row per profile and training cutoff: what happened from the cutoff on, as far as
-- it was known when training.
with

features as (

    select * from {{ ref('features') }}

),

cutoffs as (

    select * from {{ ref('cutoffs') }}

),

orders as (

    select * from {{ ref('stg_orders') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

place_orders as (

    select
        profile_events.profile_id,
        orders.ordered_at
    from orders
    inner join profile_events on orders.message_id = profile_events.message_id
    where orders.status <> 'cancelled'

),

find_next_order as (

    select
        features.profile_id,
        features.cutoff_at,
        features.churn_cycle_days,
        min(place_orders.ordered_at) as next_ordered_at
    from features
    inner join cutoffs
        on features.cutoff_at = cutoffs.cutoff_at and cutoffs.is_training
    left join place_orders
        on
            features.profile_id = place_orders.profile_id
            and features.cutoff_at <= place_orders.ordered_at
    group by features.profile_id, features.cutoff_at, features.churn_cycle_days

),

end_windows as (

    select
        find_next_order.*,
        run.training_cutoff_at,
        {{ add_days('find_next_order.cutoff_at', 'run.horizon_days') }}
            as purchase_known_at,
        {{ add_days('find_next_order.cutoff_at', 'find_next_order.churn_cycle_days') }}
            as churn_known_at
    from find_next_order
    cross join run

),

label_outcomes as (

    select
        profile_id,
        cutoff_at,
        coalesce(next_ordered_at < purchase_known_at, false) as has_ordered,
        case
            when churn_known_at <= training_cutoff_at
                then coalesce(next_ordered_at >= churn_known_at, true)
        end as has_churned,
        purchase_known_at,
        churn_known_at
    from end_windows

)

select * from label_outcomes
