-- One row per profile with an order that is not cancelled: how long it may be silent
-- before it counts as gone.
with

orders as (

    select * from {{ ref('stg_orders') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

measure_gaps as (

    select
        profile_events.profile_id,
        -- two orders within a day are one purchase, and no habit
        nullif({{ days_between(
            'lag(orders.ordered_at) over (partition by profile_events.profile_id '
            ~ 'order by orders.ordered_at asc, orders.order_id asc)',
            'orders.ordered_at',
        ) }}, 0) as gap_days
    from orders
    inner join profile_events on orders.message_id = profile_events.message_id
    where orders.status <> 'cancelled'

),

find_medians as (

    select
        profile_id,
        median(gap_days) as median_gap_days
    from measure_gaps
    group by profile_id

),

clamp_cycles as (

    select
        find_medians.profile_id,
        find_medians.median_gap_days,
        cast(
            case
                when find_medians.median_gap_days is null
                    then rules.churn_cycle_default_days
                else least(
                    greatest(
                        ceil(
                            rules.churn_cycle_gap_multiple
                            * find_medians.median_gap_days
                        ),
                        rules.churn_cycle_min_days
                    ),
                    rules.churn_cycle_max_days
                )
            end as integer
        ) as churn_cycle_days
    from find_medians
    cross join rules

)

select * from clamp_cycles
