-- One row per profile and cutoff before which it ordered: when and for how much it
-- ordered, and how steadily. All orders of one day (UTC) count as one.
{%- set windows = [7, 14, 30, 60, 90, 180, 365] %}
with

activity_hours as (

    select * from {{ ref('activity_hours') }}

),

profile_cutoffs as (

    select * from {{ ref('profile_cutoffs') }}

),

sum_days as (

    select
        profile_id,
        date_trunc('day', hour_at) as day_at,
        cast(sum(online_order_amount + store_order_amount) as decimal(18, 2))
            as amount
    from activity_hours
    where online_order_count + store_order_count > 0
    group by profile_id, date_trunc('day', hour_at)

),

measure_gaps as (

    select
        profile_id,
        day_at,
        amount,
        {{ days_between(
            'lag(day_at) over (partition by profile_id order by day_at asc)',
            'day_at'
        ) }} as gap_days
    from sum_days

),

sum_before_cutoff as (

    select
        measure_gaps.profile_id,
        profile_cutoffs.cutoff_at,
        count(*) as order_day_count,
        count(distinct date_trunc('month', measure_gaps.day_at)) as order_month_count,
        min(measure_gaps.day_at) as first_day_at,
        max(measure_gaps.day_at) as last_day_at,
        median(measure_gaps.gap_days) as median_gap_days,
        max_by(measure_gaps.gap_days, measure_gaps.day_at) as last_gap_days,
        max(measure_gaps.gap_days) as longest_gap_days,
        sum(measure_gaps.gap_days * measure_gaps.gap_days) as squared_gap_days,
        min_by(measure_gaps.amount, measure_gaps.day_at) as first_order_amount,
        max_by(measure_gaps.amount, measure_gaps.day_at) as last_order_amount,
        max(measure_gaps.amount) as largest_order_amount
        {%- for days in windows %},
        {%- set begins_at = add_days('profile_cutoffs.cutoff_at', -days) %}
        count(case when measure_gaps.day_at >= {{ begins_at }} then 1 end)
            as order_{{ days }}d_count,
        cast(
            sum(
                case
                    when measure_gaps.day_at >= {{ begins_at }}
                        then measure_gaps.amount
                    else 0
                end
            ) as decimal(18, 2)
        ) as order_{{ days }}d_amount
        {%- endfor %}
    from measure_gaps
    inner join profile_cutoffs
        on
            measure_gaps.profile_id = profile_cutoffs.profile_id
            and measure_gaps.day_at < profile_cutoffs.cutoff_at
    group by measure_gaps.profile_id, profile_cutoffs.cutoff_at

),

describe_rhythms as (

    select
        profile_id,
        cutoff_at,
        order_day_count,
        order_month_count,
        {{ days_between('first_day_at', 'cutoff_at') }} as days_since_first_order,
        {{ days_between('first_day_at', 'last_day_at') }}
            as days_from_first_to_last_order,
        cast(median_gap_days as decimal(9, 1)) as days_between_orders,
        last_gap_days as last_days_between_orders,
        longest_gap_days as longest_days_between_orders,
        -- all days that were summed are whole, so that no order of rows shows
        cast(round(sqrt(cast(greatest(
            squared_gap_days * (order_day_count - 1)
            - {{ days_between('first_day_at', 'last_day_at') }}
            * {{ days_between('first_day_at', 'last_day_at') }},
            0
        ) as double)) / nullif(order_day_count - 1, 0), 1) as decimal(9, 1))
            as spread_days_between_orders,
        first_order_amount,
        last_order_amount,
        largest_order_amount
        {%- for days in windows %},
        order_{{ days }}d_count,
        order_{{ days }}d_amount
        {%- endfor %}
    from sum_before_cutoff

)

select * from describe_rhythms
