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
        lower(identifier) as identifier,
        {{ spelled('identifier') }} as word
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
            as properties,
        -- whom a message went to, as its tool calls them
        case
            when kind in ('message', 'consent')
                then {{ email_in(joined_texts('properties', [
                    '$.email',
                    '$.recipient',
                    '$.recipient.email',
                    '$.to',
                    '$.customer.email',
                    '$.profile.email',
                    '$.user.email',
                ]) ~ ' || ' ~ joined_texts('traits', ['$.email'])
                ~ " || coalesce(user_id, '')") }}
        end as recipient_email,
        case
            when kind in ('message', 'consent')
                then coalesce(
                    {{ json_text('properties', '$.phone') }},
                    case
                        when action = 'reply'
                            then {{ json_text('properties', '$.from') }}
                        else {{ json_text('properties', '$.to') }}
                    end
                )
        end as recipient_phone
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
            ('email', "coalesce(nullif(recipient_email, ''), properties[1])"),
            ('phone', 'traits[2]'),
            ('phone', 'recipient_phone'),
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

-- tools that know no more than an address send it as if it were a browser's id
recognise_emails as (

    select
        message_id,
        occurred_at,
        case
            when identifier_type = 'anonymous_id' and {{ is_email('identifier') }}
                then 'email'
            else identifier_type
        end as identifier_type,
        case
            when identifier_type = 'anonymous_id' and {{ is_email('identifier') }}
                then lower(identifier)
            else identifier
        end as identifier
    from name_pairs
    where identifier <> ''

),

name_identifiers as (

    select
        *,
        case
            when identifier_type = 'email' then split_part(identifier, '@', 1)
            else identifier
        end as name
    from recognise_emails

),

drop_placeholders as (

    select *
    from name_identifiers
    where
        case
            when identifier_type = 'email'
                then
                {{ is_email('identifier') }}
                and not {{ is_nobodys_email('identifier') }}
            else not {{ is_placeholder('identifier') }}
        end

),

drop_blocked as (

    select distinct
        drop_placeholders.message_id,
        drop_placeholders.occurred_at,
        drop_placeholders.identifier_type,
        drop_placeholders.identifier
    from drop_placeholders
    left join blocked
        on
            lower(drop_placeholders.identifier) = blocked.identifier
            and drop_placeholders.identifier_type
            = coalesce(blocked.identifier_type, drop_placeholders.identifier_type)
    left join blocked as blocked_words
        on
            {{ spelled('drop_placeholders.name') }} = blocked_words.word
            and blocked_words.word <> ''
            and blocked_words.identifier_type is null
    where blocked.identifier is null and blocked_words.identifier is null

)

select * from drop_blocked
