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
                    '$.contact.email',
                    '$.subscriber.email',
                    '$.member.email',
                    '$.data.email',
                ]) ~ ' || ' ~ joined_texts('traits', ['$.email'])
                ~ " || coalesce(user_id, '')") }}
        end as recipient_email,
        case
            when kind in ('message', 'consent')
                then {{ json_texts('properties', [
                    '$.phone',
                    '$.recipient',
                    '$.customer.phone',
                    '$.profile.phone',
                    '$.profile.phone_number',
                    '$.user.phone',
                    '$.contact.phone',
                    '$.subscriber.phone',
                ]) }} || [
                    case
                        when action = 'reply'
                            then {{ json_text('properties', '$.from') }}
                        else {{ json_text('properties', '$.to') }}
                    end,
                    case when user_id like '+%' then user_id end
                ]
        end as recipient_phones,
        case
            when left(external_ids, 1) = '['
                then json_extract(try_cast(external_ids as json), '$[*]')
            when left(external_ids, 1) = '{'
                then [try_cast(external_ids as json)]
        end as external_ids
    from events

),

list_external_ids as (

    select
        items.message_id,
        items.occurred_at,
        trait_spellings.meaning as name,
        {{ json_text('items.item', '$.id') }} as value
    from (
        select
            message_id,
            occurred_at,
            {{ unnest_items('external_ids') }} as item
        from read_fields
        where external_ids is not null
    ) as items
    inner join {{ spellings('traits') }} as trait_spellings
        on {{ spelled(json_text('items.item', '$.type')) }} = trait_spellings.spelled
    where trait_spellings.meaning in ('email', 'phone')

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
            ('anonymous_id', 'anonymous_id'),
            ('anonymous_id', "case when type = 'alias' then properties[3] end"),
            ('device_id', 'device_id'),
        ]) }} as pair
    from read_fields
    union all
    select
        message_id,
        occurred_at,
        { 'name': 'phone', 'value': {{ unnest_items('recipient_phones') }} } as pair
    from read_fields
    where recipient_phones is not null
    union all
    select
        message_id,
        occurred_at,
        { 'name': name, 'value': value } as pair
    from list_external_ids

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
        ) }} as identifier,
        case when list_identifiers.pair.value like '+%' then phone_numbers.phone end
            as phone
    from list_identifiers
    left join phone_numbers
        on
            list_identifiers.pair.name in ('phone', 'anonymous_id')
            and list_identifiers.pair.value = phone_numbers.spelling

),

-- tools that know no more than an address send it as if it were a browser's id
recognise_addresses as (

    select
        message_id,
        occurred_at,
        case
            when identifier_type <> 'anonymous_id' then identifier_type
            when {{ is_email('identifier') }} then 'email'
            when phone is not null then 'phone'
            else identifier_type
        end as identifier_type,
        case
            when identifier_type <> 'anonymous_id' then identifier
            when {{ is_email('identifier') }} then lower(identifier)
            else coalesce(phone, identifier)
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
    from recognise_addresses

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
