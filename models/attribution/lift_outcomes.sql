-- One row per entry that counts: whether the profile came and what it bought within the
-- horizon.
with

lift_entries as (

    select * from {{ ref('lift_entries') }}
    where exclusion_reason is null

),

sessions as (

    select * from {{ ref('sessions') }}

),

conversions as (

    select * from {{ ref('conversions') }}

),

message_sessions as (

    select * from {{ ref('message_sessions') }}

),

touchpoints as (

    select * from {{ ref('touchpoints') }}

),

credits as (

    select * from {{ ref('credits') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

find_sessions_of_journeys as (

    select distinct
        message_sessions.session_id,
        touchpoints.journey
    from message_sessions
    inner join touchpoints
        on message_sessions.message_touchpoint_id = touchpoints.touchpoint_id
    where touchpoints.journey is not null

),

find_visitors as (

    select
        lift_entries.trial_type,
        lift_entries.trial,
        lift_entries.profile_id,
        coalesce(bool_or(
            lift_entries.trial_type = 'journey'
            and lift_entries.trial in (sent.journey, 'all')
            and sent.journey is not null
        ), false) as has_attributed_visit
    from lift_entries
    inner join sessions
        on
            lift_entries.profile_id = sessions.profile_id
            and lift_entries.entered_at < sessions.ended_at
            and lift_entries.horizon_ends_at >= sessions.started_at
    left join find_sessions_of_journeys as sent
        on sessions.session_id = sent.session_id
    group by
        lift_entries.trial_type, lift_entries.trial, lift_entries.profile_id

),

-- as long before the entry as counts after it: what no arm can have changed
sum_earlier_conversions as (

    select
        lift_entries.trial_type,
        lift_entries.trial,
        lift_entries.profile_id,
        sum(conversions.revenue_amount) as prior_revenue_amount
    from lift_entries
    inner join conversions
        on
            lift_entries.profile_id = conversions.profile_id
            and lift_entries.entered_at >= conversions.converted_at
            and lift_entries.entered_at
            - (lift_entries.horizon_ends_at - lift_entries.entered_at)
            < conversions.converted_at
    group by
        lift_entries.trial_type, lift_entries.trial, lift_entries.profile_id

),

find_conversions_within_horizon as (

    select
        lift_entries.trial_type,
        lift_entries.trial,
        lift_entries.profile_id,
        conversions.conversion_id,
        conversions.revenue_amount
    from lift_entries
    inner join conversions
        on
            lift_entries.profile_id = conversions.profile_id
            and lift_entries.entered_at < conversions.converted_at
            and lift_entries.horizon_ends_at >= conversions.converted_at

),

sum_conversions as (

    select
        trial_type,
        trial,
        profile_id,
        sum(revenue_amount) as revenue_amount
    from find_conversions_within_horizon
    group by trial_type, trial, profile_id

),

sum_credits as (

    select
        found.trial_type,
        found.trial,
        found.profile_id,
        sum(credits.credit) as attributed_conversion_count,
        sum(credits.revenue_amount) as attributed_revenue_amount
    from find_conversions_within_horizon as found
    inner join credits on found.conversion_id = credits.conversion_id
    inner join attribution_rules
        on credits.attribution_model = attribution_rules.lift_attribution_model
    where
        found.trial_type = 'journey'
        and (
            credits.journey = found.trial
            or (found.trial = 'all' and credits.journey is not null)
        )
    group by found.trial_type, found.trial, found.profile_id

),

describe_outcomes as (

    select
        lift_entries.trial_type,
        lift_entries.trial,
        lift_entries.profile_id,
        lift_entries.arm,
        lift_entries.is_control,
        find_visitors.profile_id is not null as has_visited,
        coalesce(find_visitors.has_attributed_visit, false) as has_attributed_visit,
        sum_conversions.profile_id is not null as has_converted,
        cast(coalesce(sum_credits.attributed_conversion_count, 0) as decimal(18, 9))
            as attributed_conversion_count,
        cast(coalesce(sum_conversions.revenue_amount, 0) as decimal(18, 2))
            as revenue_amount,
        cast(coalesce(sum_credits.attributed_revenue_amount, 0) as decimal(18, 2))
            as attributed_revenue_amount,
        cast(
            coalesce(sum_earlier_conversions.prior_revenue_amount, 0)
            as decimal(18, 2)
        ) as prior_revenue_amount
    from lift_entries
    {%- for part in [
        'find_visitors', 'sum_conversions', 'sum_credits', 'sum_earlier_conversions'
    ] %}
    left join {{ part }}
        on
            lift_entries.trial_type = {{ part }}.trial_type
            and lift_entries.trial = {{ part }}.trial
            and lift_entries.profile_id = {{ part }}.profile_id
    {%- endfor %}

)

select * from describe_outcomes
