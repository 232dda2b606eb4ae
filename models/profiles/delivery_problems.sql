-- One row per profile and channel whose address was reported on, by whoever held it
-- then: what went wrong with the address and when something last arrived there.
{%- set success = "interaction in ('delivered', 'clicked')" %}
{%- set failure = "interaction in ('bounced', 'failed')" %}
with

message_events as (

    select * from {{ ref('stg_message_events') }}
    where
        interaction in (
            'delivered', 'clicked', 'bounced', 'failed', 'complained', 'unsubscribed'
        )

),

sends as (

    select * from {{ ref('stg_sends') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

identifiers as (

    select
        identifiers.message_id,
        channel_rules.channel,
        identifiers.identifier as address,
        count(*) over (
            partition by identifiers.message_id, channel_rules.channel
        ) as address_count
    from {{ ref('stg_identifiers') }} as identifiers
    inner join channel_rules
        on identifiers.identifier_type = channel_rules.address_type
    where identifiers.identifier_type in ('email', 'phone')

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

addresses as (

    select * from {{ ref('addresses') }}
    where address is not null

),

-- where the message went, else the address that the report names, else the one that the
-- person has, if it was known by then: what was reported earlier was about another one
address_reports as (

    select
        message_events.channel,
        message_events.message_id,
        message_events.interaction,
        message_events.is_temporary,
        message_events.effective_at as occurred_at,
        coalesce(
            sends.address,
            identifiers.address,
            case
                when channel_rules.address_type = 'device_token'
                    then message_events.device_token
            end,
            case
                when addresses.valid_from > message_events.effective_at then null
                else addresses.address
            end
        ) as address
    from message_events
    inner join profile_events on message_events.message_id = profile_events.message_id
    left join sends
        on
            message_events.send_id = sends.send_id
            and message_events.channel = sends.channel
    left join channel_rules on message_events.channel = channel_rules.channel
    left join identifiers
        on
            message_events.message_id = identifiers.message_id
            and message_events.channel = identifiers.channel
    left join addresses
        on
            profile_events.profile_id = addresses.profile_id
            and message_events.channel = addresses.channel
    -- of several addresses one got the message, and each may be the one that failed
    where
        coalesce(identifiers.address_count, 1) = 1
        or sends.address is not null
        or not {{ success }}

),

date_reports as (

    select
        *,
        max(case when {{ success }} then occurred_at end) over (
            partition by channel, address
        ) as success_at
    from address_reports
    where address is not null

),

summarise_reports as (

    select
        channel,
        address,
        max(case when interaction = 'complained' then occurred_at end)
            as complained_at,
        max(case when interaction = 'unsubscribed' then occurred_at end)
            as unsubscribed_at,
        max_by(message_id, (occurred_at, message_id))
            filter (where interaction = 'unsubscribed') as unsubscribe_message_id,
        max_by(interaction, (occurred_at, message_id))
            filter (where {{ failure }} and not is_temporary) as failure,
        max(case when {{ failure }} and not is_temporary then occurred_at end)
            as failed_at,
        count(
            case
                when
                    {{ failure }}
                    and is_temporary
                    and (success_at is null or occurred_at > success_at)
                    then 1
            end
        ) as temporary_failure_count,
        max(case when {{ failure }} and is_temporary then occurred_at end)
            as temporarily_failed_at,
        max(success_at) as success_at
    from date_reports
    group by channel, address

),

find_holders as (

    select
        addresses.profile_id,
        summarise_reports.channel,
        summarise_reports.complained_at,
        summarise_reports.unsubscribed_at,
        summarise_reports.unsubscribe_message_id,
        summarise_reports.failure,
        summarise_reports.failed_at,
        summarise_reports.temporary_failure_count,
        summarise_reports.temporarily_failed_at,
        summarise_reports.success_at
    from summarise_reports
    inner join addresses
        on
            summarise_reports.channel = addresses.channel
            and summarise_reports.address = addresses.address

)

select * from find_holders
