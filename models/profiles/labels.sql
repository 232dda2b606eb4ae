-- One row per profile, training cutoff and target: what happened from the cutoff on,
-- where that was known when training.
with

features as (

    select * from {{ ref('features') }}

),

profile_cutoffs as (

    select * from {{ ref('profile_cutoffs') }}

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
    inner join profile_cutoffs
        on
            features.profile_id = profile_cutoffs.profile_id
            and features.cutoff_at = profile_cutoffs.cutoff_at
            and profile_cutoffs.is_training
    left join place_orders
        on
            features.profile_id = place_orders.profile_id
            and features.cutoff_at <= place_orders.ordered_at
    group by features.profile_id, features.cutoff_at, features.churn_cycle_days

),

list_horizons as (

    select {{ unnest_items('horizons_days') }} as horizon_days
    from run

),

set_windows as (

    select
        find_next_order.profile_id,
        find_next_order.cutoff_at,
        'purchase_' || list_horizons.horizon_days || 'd' as target,
        list_horizons.horizon_days,
        true as is_order_wanted,
        find_next_order.next_ordered_at
    from find_next_order
    cross join list_horizons
    union all
    select
        profile_id,
        cutoff_at,
        'churn' as target,
        churn_cycle_days as horizon_days,
        false as is_order_wanted,
        next_ordered_at
    from find_next_order

),

end_windows as (

    select
        *,
        {{ add_days('cutoff_at', 'horizon_days') }} as known_at
    from set_windows

),

label_outcomes as (

    select
        end_windows.profile_id,
        end_windows.cutoff_at,
        end_windows.target,
        end_windows.horizon_days,
        coalesce(end_windows.next_ordered_at < end_windows.known_at, false)
        = end_windows.is_order_wanted as has_happened,
        end_windows.known_at
    from end_windows
    cross join run
    where end_windows.known_at <= run.training_cutoff_at

)

select * from label_outcomes
