-- One row per message and identifier that it carries.
with

events as (

    select * from {{ ref('stg_events') }}

),

blocked_identifiers as (

    select * from {{ ref('blocked_identifiers') }}

),

read_fields as (

    select
        message_id,
        occurred_at,
        type,
        user_id,
        anonymous_id,
        device_id,
        {{ json_texts('traits', ['$.email', '$.phone', '$.loyaltyId']) }} as traits,
        {{ json_texts('properties', [
            '$.email', '$.loyalty_id', '$.loyaltyId', '$.previousId'
        ]) }} as properties
    from events

),

list_identifiers as (

    select
        message_id,
        occurred_at,
        {{ unpivot([
            ('user_id', 'trim(user_id)'),
            ('loyalty_id', 'trim(traits[3])'),
            ('loyalty_id', 'trim(coalesce(properties[2], properties[3]))'),
            ('email', 'lower(trim(traits[1]))'),
            ('email', 'lower(trim(properties[1]))'),
            ('phone', phone_digits('traits[2]')),
            ('anonymous_id', 'trim(anonymous_id)'),
            ('anonymous_id', "case when type = 'alias' then trim(properties[4]) end"),
            ('device_id', 'trim(device_id)'),
        ]) }} as pair
    from read_fields

),

name_pairs as (

    select
        message_id,
        occurred_at,
        pair.name as identifier_type,
        pair.value as identifier
    from list_identifiers

),

drop_blocked as (

    select distinct
        name_pairs.message_id,
        name_pairs.occurred_at,
        name_pairs.identifier_type,
        name_pairs.identifier
    from name_pairs
    left join blocked_identifiers
        on lower(name_pairs.identifier) = blocked_identifiers.identifier
    where
        name_pairs.identifier <> ''
        and blocked_identifiers.identifier is null
        and (
            name_pairs.identifier_type <> 'email'
            or name_pairs.identifier like '%_@_%._%'
        )

)

select * from drop_blocked
