-- One row per profile and clock hour before `as_of` in which something happened.
-- Training cutoffs lie on whole hours, so that a cutoff never splits a row.
{%- set counted = [
    'session', 'product_view', 'cart_add', 'checkout', 'online_order', 'store_order',
    'refund', 'cancellation', 'coupon', 'message_click', 'message_open', 'service_issue',
] %}
with

profile_events as (

    select * from {{ ref('profile_events') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

sessions as (

    select * from {{ ref('sessions') }}

),

activities as (

    select * from {{ ref('activities') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

list_moments as (

    select
        profile_events.profile_id,
        profile_events.occurred_at,
        activities.activity,
        activities.amount
    from profile_events
    left join activities on profile_events.message_id = activities.message_id
    union all
    select
        profile_id,
        started_at as occurred_at,
        'session' as activity,
        0 as amount
    from sessions

),

keep_persons as (

    select list_moments.*
    from list_moments
    inner join profiles on list_moments.profile_id = profiles.profile_id
    cross join run
    where not profiles.is_hub and list_moments.occurred_at < run.as_of

),

count_by_hour as (

    select
        profile_id,
        date_trunc('hour', occurred_at) as hour_at,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        max(case when activity = 'session' then occurred_at end) as last_session_at,
        max(
            case
                when activity in ('online_order', 'store_order') then occurred_at
            end
        ) as last_order_at,
        {%- for activity in counted %}
        count(case when activity = '{{ activity }}' then 1 end)
            as {{ activity }}_count,
        {%- endfor %}
        {%- for activity in ['online_order', 'store_order', 'refund'] %}
        cast(
            sum(case when activity = '{{ activity }}' then amount else 0 end)
            as decimal(18, 2)
        ) as {{ activity }}_amount{{ ',' if not loop.last }}
        {%- endfor %}
    from keep_persons
    group by profile_id, date_trunc('hour', occurred_at)

)

select * from count_by_hour
