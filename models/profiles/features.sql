-- One row per profile and cutoff: what was known of the profile before that moment.
-- Nothing that happened at the cutoff or later is read, so that what estimators learn
-- from the past is what they will see in use.
{%- set windows = [] -%}
{%- for thing in ['session', 'product_view', 'cart_add', 'checkout'] -%}
    {%- for days in [7, 30, 90] -%}
        {%- do windows.append((thing, days)) -%}
    {%- endfor -%}
{%- endfor -%}
{%- for thing in ['online_order', 'message_click', 'message_open', 'service_issue'] -%}
    {%- do windows.append((thing, 90)) -%}
{%- endfor %}
{%- set rhythms = [
    'days_since_first_order', 'days_from_first_to_last_order', 'days_between_orders',
    'last_days_between_orders', 'longest_days_between_orders',
    'spread_days_between_orders', 'first_order_amount', 'last_order_amount',
    'largest_order_amount',
] -%}
{%- set order_windows = [7, 14, 30, 60, 90, 180, 365] %}
with

activity_hours as (

    select * from {{ ref('activity_hours') }}

),

order_rhythms as (

    select * from {{ ref('order_rhythms') }}

),

profile_rules as (

    select * from {{ ref('profile_rules') }}

),

profile_cutoffs as (

    select * from {{ ref('profile_cutoffs') }}

),

sum_before_cutoff as (

    select
        activity_hours.profile_id,
        profile_cutoffs.cutoff_at,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        max(last_session_at) as last_session_at,
        max(last_order_at) as last_order_at,
        cast(sum(online_order_count + store_order_count) as bigint) as order_count,
        {%- for thing in ['store_order', 'refund', 'cancellation', 'coupon'] %}
        cast(sum({{ thing }}_count) as bigint) as {{ thing }}_count,
        {%- endfor %}
        sum(online_order_amount + store_order_amount) as order_amount,
        sum(refund_amount) as refund_amount,
        {%- for thing, days in windows %}
        cast(
            sum(
                case
                    when hour_at >= {{ add_days('profile_cutoffs.cutoff_at', -days) }}
                        then {{ thing }}_count
                    else 0
                end
            ) as bigint
        ) as {{ thing }}_{{ days }}d_count{{ ',' if not loop.last }}
        {%- endfor %}
    from activity_hours
    inner join profile_cutoffs
        on
            activity_hours.profile_id = profile_cutoffs.profile_id
            and activity_hours.hour_at < profile_cutoffs.cutoff_at
    group by activity_hours.profile_id, profile_cutoffs.cutoff_at

),

describe_profiles as (

    select
        sums.profile_id,
        sums.cutoff_at,
        {%- for moment in ['first_seen', 'last_seen', 'last_session', 'last_order'] %}
        {{ days_between('sums.' ~ moment ~ '_at', 'sums.cutoff_at') }}
            as days_since_{{ moment }},
        {%- endfor %}
        sums.order_count,
        sums.store_order_count,
        sums.refund_count,
        sums.cancellation_count,
        sums.coupon_count,
        cast(sums.order_amount - sums.refund_amount as decimal(18, 2))
            as revenue_amount,
        cast(
            round(sums.order_amount / nullif(sums.order_count, 0), 2)
            as decimal(18, 2)
        ) as average_order_amount,
        coalesce(order_rhythms.order_day_count, 0) as order_day_count,
        coalesce(order_rhythms.order_month_count, 0) as order_month_count,
        -- a first month is added, so that one order long ago and one of today differ
        cast(
            30.0 * coalesce(order_rhythms.order_day_count, 0)
            / (coalesce(order_rhythms.days_since_first_order, 0) + 30)
            as decimal(9, 4)
        ) as orders_per_30d,
        cast(
            {{ days_between('sums.last_order_at', 'sums.cutoff_at') }}
            / (order_rhythms.days_between_orders + 1) as decimal(9, 4)
        ) as overdue_ratio,
        {%- for rhythm in rhythms %}
        order_rhythms.{{ rhythm }},
        {%- endfor %}
        {%- for days in order_windows %}
        coalesce(order_rhythms.order_{{ days }}d_count, 0) as order_{{ days }}d_count,
        coalesce(order_rhythms.order_{{ days }}d_amount, 0)
            as order_{{ days }}d_amount,
        {%- endfor %}
        cast(
            case
                when order_rhythms.days_between_orders is null
                    then profile_rules.churn_cycle_default_days
                else least(
                    greatest(
                        ceil(
                            profile_rules.churn_cycle_gap_multiple
                            * order_rhythms.days_between_orders
                        ),
                        profile_rules.churn_cycle_min_days
                    ),
                    profile_rules.churn_cycle_max_days
                )
            end as integer
        ) as churn_cycle_days,
        {%- for thing, days in windows %}
        sums.{{ thing }}_{{ days }}d_count{{ ',' if not loop.last }}
        {%- endfor %}
    from sum_before_cutoff as sums
    cross join profile_rules
    left join order_rhythms
        on
            sums.profile_id = order_rhythms.profile_id
            and sums.cutoff_at = order_rhythms.cutoff_at

)

select * from describe_profiles
