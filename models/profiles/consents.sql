-- One row per profile, channel and purpose: the permission stated last.
with

consent_updates as (

    select * from {{ ref('stg_consent_updates') }}
    where channel is not null

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

keep_newest as (

    select
        profile_events.profile_id,
        consent_updates.channel,
        consent_updates.purpose,
        consent_updates.status,
        consent_updates.lawful_basis,
        consent_updates.policy_version,
        consent_updates.message_id,
        profile_events.occurred_at as updated_at
    from consent_updates
    inner join profile_events on consent_updates.message_id = profile_events.message_id
    qualify row_number() over (
        partition by
            profile_events.profile_id, consent_updates.channel, consent_updates.purpose
        order by
            profile_events.occurred_at desc,
            consent_updates.status asc,
            consent_updates.message_id asc
    ) = 1

)

select * from keep_newest
