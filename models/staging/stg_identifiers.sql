-- One row per message and identifier that it carries.
with

events as (

    select * from {{ ref('stg_events') }}

),

blocked_identifiers as (

    select * from {{ ref('blocked_identifiers') }}

),

list_identifiers as (

    select
        message_id,
        occurred_at,
        'user_id' as identifier_type,
        trim(user_id) as identifier
    from events
    where user_id is not null
    union all
    select
        message_id,
        occurred_at,
        'anonymous_id' as identifier_type,
        trim(anonymous_id) as identifier
    from events
    where anonymous_id is not null
    union all
    select
        message_id,
        occurred_at,
        'device_id' as identifier_type,
        trim(device_id) as identifier
    from events
    where device_id is not null
    union all
    select
        message_id,
        occurred_at,
        'email' as identifier_type,
        lower(trim({{ json_text('traits', '$.email') }})) as identifier
    from events
    where traits is not null
    union all
    select
        message_id,
        occurred_at,
        'email' as identifier_type,
        lower(trim({{ json_text('properties', '$.email') }})) as identifier
    from events
    where properties is not null and type <> 'page'
    union all
    select
        message_id,
        occurred_at,
        'phone' as identifier_type,
        {{ phone_digits(json_text('traits', '$.phone')) }} as identifier
    from events
    where traits is not null
    union all
    select
        message_id,
        occurred_at,
        'loyalty_id' as identifier_type,
        trim({{ json_text('traits', '$.loyaltyId') }}) as identifier
    from events
    where traits is not null
    union all
    select
        message_id,
        occurred_at,
        'loyalty_id' as identifier_type,
        trim(
            coalesce(
                {{ json_text('properties', '$.loyalty_id') }},
                {{ json_text('properties', '$.loyaltyId') }}
            )
        ) as identifier
    from events
    where kind = 'order' or kind = 'product_view'
    union all
    select
        message_id,
        occurred_at,
        'anonymous_id' as identifier_type,
        trim({{ json_text('properties', '$.previousId') }}) as identifier
    from events
    where type = 'alias'

),

drop_blocked as (

    select distinct
        list_identifiers.message_id,
        list_identifiers.occurred_at,
        list_identifiers.identifier_type,
        list_identifiers.identifier
    from list_identifiers
    left join blocked_identifiers
        on lower(list_identifiers.identifier) = blocked_identifiers.identifier
    where
        list_identifiers.identifier <> ''
        and blocked_identifiers.identifier is null
        and (
            list_identifiers.identifier_type <> 'email'
            or list_identifiers.identifier like '%_@_%._%'
        )

)

select * from drop_blocked
