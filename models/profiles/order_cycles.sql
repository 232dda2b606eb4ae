-- One row per profile with an order that is not cancelled: how long it may be silent
-- before it counts as gone. All orders of one day (UTC) count as one.
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

list_order_days as (

    select distinct
        profile_events.profile_id,
        date_trunc('day', orders.ordered_at) as day_at
    from orders
    inner join profile_events on orders.message_id = profile_events.message_id
    where orders.status <> 'cancelled'

),

measure_gaps as (

    select
        profile_id,
        {{ days_between(
            'lag(day_at) over (partition by profile_id order by day_at asc)',
            'day_at'
        ) }} as gap_days
    from list_order_days

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
