-- One row per profile, signal and occasion: what may move a person between phases. An
-- occasion is a day for signals that count once a day, else a message. On a day that
-- may lead to phase 5, by an order or the end of a misstep, every message is one.
{% set moment = make_struct({
    'occurred_at': 'find_profiles.occurred_at',
    'message_id': 'find_profiles.message_id',
}) %}
with

signals as (

    select * from {{ ref('phase_signals') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

service_events as (

    select * from {{ ref('stg_service_events') }}

),

collect_message_signals as (

    select
        message_id,
        'engaged' as signal
    from {{ ref('stg_message_events') }}
    where interaction = 'clicked' and not is_machine

    union all

    select
        message_id,
        'viewed_content' as signal
    from {{ ref('stg_product_views') }}

    union all

    select
        message_id,
        'carted' as signal
    from {{ ref('stg_cart_events') }}
    where action = 'added'

    union all

    select
        message_id,
        'checked_out' as signal
    from {{ ref('stg_checkout_events') }}

    union all

    select
        message_id,
        'ordered' as signal
    from {{ ref('stg_orders') }}
    where status <> 'cancelled'

    union all

    select
        message_id,
        'promoted' as signal
    from service_events
    where
        kind in ('referral_sent', 'referral_converted')
        or (kind = 'nps' and score >= {{ phase_rule('promoter_score') }})
        or (kind = 'review' and score >= {{ phase_rule('promoter_rating') }})

),

find_profiles as (

    select
        profile_events.profile_id,
        collect_message_signals.signal,
        collect_message_signals.message_id,
        profile_events.occurred_at
    from collect_message_signals
    inner join profile_events
        on collect_message_signals.message_id = profile_events.message_id

    union all

    select
        profile_id,
        signal,
        message_id,
        occurred_at
    from {{ ref('derived_phase_signals') }}

),

-- who comes to phase 5 may move on the same day, whatever was seen earlier on it
find_days_of_return as (

    select distinct
        profile_id,
        cast(occurred_at as date) as occurred_on
    from find_profiles
    where signal in ('ordered', 'misstep_resolved')

),

count_once_a_day as (

    -- most signals move a person once a day at most: the first of a day stands for all
    select
        find_profiles.profile_id,
        find_profiles.signal,
        min({{ moment }}) as first_moment,
        max({{ moment }}) as last_moment
    from find_profiles
    inner join signals on find_profiles.signal = signals.signal
    inner join profiles
        on find_profiles.profile_id = profiles.profile_id and not profiles.is_hub
    left join find_days_of_return
        on
            find_profiles.profile_id = find_days_of_return.profile_id
            and cast(find_profiles.occurred_at as date)
            = find_days_of_return.occurred_on
    group by
        find_profiles.profile_id,
        find_profiles.signal,
        cast(find_profiles.occurred_at as date),
        case
            when not signals.is_daily or find_days_of_return.profile_id is not null
                then find_profiles.message_id
        end

),

name_fields as (

    select
        profile_id,
        signal,
        first_moment.message_id,
        first_moment.occurred_at,
        last_moment.message_id as last_message_id,
        last_moment.occurred_at as last_occurred_at
    from count_once_a_day

)

select * from name_fields
