{%- set traits = [
    'email', 'phone', 'first_name', 'last_name', 'gender', 'birthday', 'timezone',
    'country', 'region', 'city', 'postal_code', 'street', 'preferred_channel', 'goal',
] -%}
-- One row per profile: a person, or a hub that stands for several.
with

profile_identifiers as (

    select * from {{ ref('profile_identifiers') }}

),

stated_traits as (

    select * from {{ ref('stated_traits') }}

),

habits as (

    select * from {{ ref('habits') }}

),

purchase_histories as (

    select * from {{ ref('purchase_histories') }}

),

missteps as (

    select * from {{ ref('missteps') }}

),

rfm as (

    select * from {{ ref('rfm') }}

),

order_cycles as (

    select * from {{ ref('order_cycles') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

time_zones as (

    select
        time_zone,
        lower(time_zone) as spelled
    from {{ ref('time_zones') }}

),

spread_traits as (

    select
        profile_id,
        {%- for trait in traits %}
        max(case when trait = '{{ trait }}' then value end) as {{ trait }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from stated_traits
    group by profile_id

),

find_spans as (

    select
        profile_id,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at
    from profile_events
    group by profile_id

),

count_missteps as (

    select
        profile_id,
        count(case when is_open then 1 end) as open_misstep_count,
        count(case when not is_open then 1 end) as resolved_misstep_count
    from missteps
    group by profile_id

),

join_facts as (

    select
        ids.profile_id,
        ids.is_hub,
        ids.user_id,
        ids.anonymous_id,
        ids.identifier_type,
        ids.identifier,
        coalesce(traits.email, ids.email) as email,
        nullif(split_part(coalesce(traits.email, ids.email), '@', 2), '')
            as email_domain,
        coalesce(traits.phone, ids.phone) as phone,
        traits.first_name,
        traits.last_name,
        traits.gender,
        cast(traits.birthday as date) as birthday_on,
        -- one that nobody knows says nothing of the hour
        coalesce(stated_zones.time_zone, observed_zones.time_zone) as timezone,
        coalesce(traits.country, habits.country) as country,
        traits.region,
        coalesce(traits.city, habits.city) as city,
        traits.postal_code,
        traits.street,
        traits.preferred_channel,
        traits.goal,
        habits.most_engaged_channel,
        habits.main_device_class,
        habits.main_device_share,
        habits.last_device_class,
        habits.app_session_share,
        habits.web_session_share,
        habits.store_session_share,
        history.favourite_store_id,
        history.online_order_share,
        coalesce(find_spans.first_seen_at, ids.first_seen_at) as first_seen_at,
        coalesce(find_spans.last_seen_at, ids.last_seen_at) as last_seen_at,
        habits.last_session_at,
        rfm.rfm_segment,
        rfm.first_order_at,
        rfm.last_order_at,
        history.first_online_order_at,
        history.last_online_order_at,
        history.first_store_order_at,
        history.last_store_order_at,
        coalesce(habits.session_count, 0) as session_count,
        coalesce(rfm.frequency, 0) as order_count,
        coalesce(history.online_order_count, 0) as online_order_count,
        coalesce(history.store_order_count, 0) as store_order_count,
        coalesce(history.cancelled_order_count, 0) as cancelled_order_count,
        coalesce(count_missteps.open_misstep_count, 0) as open_misstep_count,
        coalesce(count_missteps.resolved_misstep_count, 0) as resolved_misstep_count,
        ids.device_count,
        coalesce(rfm.monetary_amount, 0) as revenue_amount,
        coalesce(history.online_revenue_amount, 0) as online_revenue_amount,
        coalesce(history.store_revenue_amount, 0) as store_revenue_amount,
        coalesce(order_cycles.churn_cycle_days, rules.churn_cycle_default_days)
            as churn_cycle_days
    from profile_identifiers as ids
    cross join rules
    left join spread_traits as traits on ids.profile_id = traits.profile_id
    left join habits on ids.profile_id = habits.profile_id
    left join time_zones as stated_zones
        on lower(traits.timezone) = stated_zones.spelled
    left join time_zones as observed_zones
        on lower(habits.timezone) = observed_zones.spelled
    left join purchase_histories as history
        on ids.profile_id = history.profile_id
    left join count_missteps on ids.profile_id = count_missteps.profile_id
    left join find_spans on ids.profile_id = find_spans.profile_id
    left join rfm on ids.profile_id = rfm.profile_id
    left join order_cycles on ids.profile_id = order_cycles.profile_id

)

select * from join_facts
