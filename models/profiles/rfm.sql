-- One row per profile with an order that is not cancelled: how recently, how often and
-- for how much it bought.
with

orders as (

    select * from {{ ref('stg_orders') }}

),

refunds as (

    select * from {{ ref('stg_refunds') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

segments as (

    select * from {{ ref('rfm_segments') }}

),

sum_orders as (

    select
        profile_events.profile_id,
        count(*) as order_count,
        min(orders.ordered_at) as first_order_at,
        max(orders.ordered_at) as last_order_at,
        max_by(orders.message_id, (orders.ordered_at, orders.message_id))
            as last_order_message_id,
        coalesce(sum(orders.base_revenue_amount), 0) as order_amount
    from orders
    inner join profile_events on orders.message_id = profile_events.message_id
    where orders.status <> 'cancelled'
    group by profile_events.profile_id

),

sum_unlinked_refunds as (

    select
        profile_events.profile_id,
        sum(refunds.base_refund_amount) as refund_amount
    from refunds
    inner join profile_events on refunds.message_id = profile_events.message_id
    where refunds.order_id is null
    group by profile_events.profile_id

),

measure_habits as (

    select
        sum_orders.profile_id,
        {{ days_between('sum_orders.last_order_at', 'run.as_of') }} as recency_days,
        sum_orders.order_count as frequency,
        cast(
            sum_orders.order_amount - coalesce(sum_unlinked_refunds.refund_amount, 0)
            as decimal(18, 2)
        ) as monetary_amount,
        sum_orders.first_order_at,
        sum_orders.last_order_at,
        sum_orders.last_order_message_id
    from sum_orders
    cross join run
    left join sum_unlinked_refunds
        on sum_orders.profile_id = sum_unlinked_refunds.profile_id

),

cut_quintiles as (

    select
        *,
        ntile(5) over (order by recency_days desc, profile_id asc) as recency_quintile,
        ntile(5) over (order by frequency asc, profile_id asc) as frequency_quintile,
        ntile(5) over (order by monetary_amount asc, profile_id asc)
            as monetary_quintile
    from measure_habits

),

-- equals score alike where a quintile ends among them: whoever bought last is among
-- the most recent, and one order is few, however many have no more
score_habits as (

    select
        *,
        cast(max(recency_quintile) over (partition by recency_days) as integer)
            as recency_score,
        cast(min(frequency_quintile) over (partition by frequency) as integer)
            as frequency_score,
        cast(min(monetary_quintile) over (partition by monetary_amount) as integer)
            as monetary_score
    from cut_quintiles

),

name_segments as (

    select
        score_habits.profile_id,
        score_habits.recency_days,
        score_habits.frequency,
        score_habits.monetary_amount,
        score_habits.recency_score,
        score_habits.frequency_score,
        score_habits.monetary_score,
        segments.rfm_segment,
        score_habits.first_order_at,
        score_habits.last_order_at,
        score_habits.last_order_message_id
    from score_habits
    left join segments
        on
            score_habits.recency_score = segments.recency_score
            and score_habits.frequency_score = segments.frequency_score

)

select * from name_segments
