-- One row per profile: a person, or a hub that stands for several.
with

profile_identifiers as (

    select * from {{ ref('profile_identifiers') }}

),

stated_traits as (

    select * from {{ ref('stated_traits') }}

),

sessions as (

    select * from {{ ref('sessions') }}

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

find_spans as (

    select
        profile_id,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at
    from profile_events
    group by profile_id

),

summarise_sessions as (

    select
        profile_id,
        count(*) as session_count,
        max(ended_at) as last_session_at,
        {%- for place in ['timezone', 'country', 'city'] %}
        max_by({{ place }}, (started_at, session_id))
            filter (where {{ place }} is not null) as {{ place }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from sessions
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
        coalesce(traits.phone, ids.phone) as phone,
        traits.first_name,
        traits.last_name,
        traits.gender,
        cast(traits.birthday as date) as birthday_on,
        coalesce(traits.timezone, summarise_sessions.timezone, 'UTC') as timezone,
        coalesce(traits.country, summarise_sessions.country) as country,
        traits.region,
        coalesce(traits.city, summarise_sessions.city) as city,
        traits.postal_code,
        traits.street,
        traits.preferred_channel,
        traits.goal,
        coalesce(find_spans.first_seen_at, ids.first_seen_at) as first_seen_at,
        coalesce(find_spans.last_seen_at, ids.last_seen_at) as last_seen_at,
        summarise_sessions.last_session_at,
        rfm.first_order_at,
        rfm.last_order_at,
        coalesce(summarise_sessions.session_count, 0) as session_count,
        coalesce(rfm.frequency, 0) as order_count,
        coalesce(rfm.store_order_count, 0) as store_order_count,
        ids.device_count,
        coalesce(rfm.monetary_amount, 0) as revenue_amount,
        coalesce(order_cycles.churn_cycle_days, rules.churn_cycle_default_days)
            as churn_cycle_days
    from profile_identifiers as ids
    cross join rules
    left join stated_traits as traits on ids.profile_id = traits.profile_id
    left join summarise_sessions on ids.profile_id = summarise_sessions.profile_id
    left join find_spans on ids.profile_id = find_spans.profile_id
    left join rfm on ids.profile_id = rfm.profile_id
    left join order_cycles on ids.profile_id = order_cycles.profile_id

)

select * from join_facts
