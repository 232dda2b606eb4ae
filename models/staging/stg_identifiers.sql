-- One row per message and identifier that it carries.
with

events as (

    select * from {{ ref('stg_events') }}

),

phone_numbers as (

    select * from {{ ref('stg_phone_numbers') }}

),

blocked as (

    select
        identifier_type,
        lower(identifier) as identifier
    from {{ ref('stg_identity_rules') }}
    where rule = 'block'

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
        {{ json_texts('properties', ['$.email', '$.loyalty_id', '$.previousId']) }}
            as properties
    from events

),

list_identifiers as (

    select
        message_id,
        occurred_at,
        {{ unpivot([
            ('user_id', 'user_id'),
            ('loyalty_id', 'traits[3]'),
            ('loyalty_id', 'properties[2]'),
            ('email', 'traits[1]'),
            ('email', 'properties[1]'),
            ('phone', 'traits[2]'),
            ('anonymous_id', 'anonymous_id'),
            ('anonymous_id', "case when type = 'alias' then properties[3] end"),
            ('device_id', 'device_id'),
        ]) }} as pair
    from read_fields

),

name_pairs as (

    select
        list_identifiers.message_id,
        list_identifiers.occurred_at,
        list_identifiers.pair.name as identifier_type,
        {{ normal_identifier(
            'list_identifiers.pair.name',
            'list_identifiers.pair.value',
            'phone_numbers.phone'
        ) }} as identifier
    from list_identifiers
    left join phone_numbers
        on
            list_identifiers.pair.name = 'phone'
            and list_identifiers.pair.value = phone_numbers.spelling

),

drop_blocked as (

    select distinct
        name_pairs.message_id,
        name_pairs.occurred_at,
        name_pairs.identifier_type,
        name_pairs.identifier
    from name_pairs
    left join blocked
        on
            lower(name_pairs.identifier) = blocked.identifier
            and name_pairs.identifier_type
            = coalesce(blocked.identifier_type, name_pairs.identifier_type)
    where
        name_pairs.identifier <> ''
        and blocked.identifier is null
        and (
            name_pairs.identifier_type <> 'email'
            or {{ is_email('name_pairs.identifier') }}
        )

)

select * from drop_blocked
