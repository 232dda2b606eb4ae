-- One row per profile, channel and purpose: the permission stated last.
with

consent_updates as (

    select * from {{ ref('stg_consent_updates') }}

),

message_events as (

    select * from {{ ref('stg_message_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

list_statements as (

    select
        message_id,
        channel,
        purpose,
        status,
        lawful_basis,
        policy_version
    from consent_updates
    union all
    select
        message_id,
        channel,
        'marketing' as purpose,
        'denied' as status,
        'consent' as lawful_basis,
        cast(null as varchar) as policy_version
    from message_events
    where interaction = 'unsubscribed' and channel is not null

),

keep_newest as (

    select
        profile_events.profile_id,
        list_statements.channel,
        list_statements.purpose,
        list_statements.status,
        list_statements.lawful_basis,
        list_statements.policy_version,
        list_statements.message_id,
        profile_events.occurred_at as updated_at
    from list_statements
    inner join profile_events on list_statements.message_id = profile_events.message_id
    qualify row_number() over (
        partition by
            profile_events.profile_id, list_statements.channel, list_statements.purpose
        order by
            profile_events.occurred_at desc,
            list_statements.status asc,
            list_statements.message_id asc
    ) = 1

)

select * from keep_newest
