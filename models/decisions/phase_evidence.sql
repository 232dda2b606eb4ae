-- One row per profile, signal and message: what may move a person between phases.
with

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

    select message_id, 'engaged' as signal
    from {{ ref('stg_message_events') }}
    where interaction = 'clicked' and not is_machine

    union all

    select message_id, 'viewed_content' as signal
    from {{ ref('stg_product_views') }}

    union all

    select message_id, 'carted' as signal
    from {{ ref('stg_cart_events') }}
    where action = 'added'

    union all

    select message_id, 'checked_out' as signal
    from {{ ref('stg_checkout_events') }}

    union all

    select message_id, 'ordered' as signal
    from {{ ref('stg_orders') }}
    where status <> 'cancelled'

    union all

    select message_id, 'promoted' as signal
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

    select profile_id, signal, message_id, occurred_at
    from {{ ref('phase_spells') }}

),

leave_out_hubs as (

    select find_profiles.*
    from find_profiles
    inner join profiles on find_profiles.profile_id = profiles.profile_id
    where not profiles.is_hub

)

select * from leave_out_hubs
