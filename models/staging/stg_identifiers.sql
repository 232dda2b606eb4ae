-- One row per message and identifier that it carries.
{{ config(materialized='by_message') }}

with

events as (

    select * from {{ ref('stg_events') }}
    where {{ is_new_message() }}

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
                then {{ email_in(
                    "concat_ws(' ', " ~ joined_list(json_texts('properties', [
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
                    ]), ' ') ~ ', ' ~ json_text('traits', '$.email') ~ ', user_id)'
                ) }}
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

    {%- for name, value in [
        ('user_id', 'user_id'),
        ('loyalty_id', 'traits[3]'),
        ('loyalty_id', 'properties[2]'),
        ('email', 'traits[1]'),
        ('email', "coalesce(nullif(recipient_email, ''), properties[1])"),
        ('phone', 'traits[2]'),
        ('anonymous_id', 'anonymous_id'),
        ('anonymous_id', "case when type = 'alias' then properties[3] end"),
        ('device_id', 'device_id'),
    ] %}
    select
        message_id,
        occurred_at,
        '{{ name }}' as identifier_type,
        {{ value }} as value
    from read_fields
    where {{ value }} is not null
    union all
    {%- endfor %}
    select
        message_id,
        occurred_at,
        'phone' as identifier_type,
        {{ unnest_items('recipient_phones') }} as value
    from read_fields
    where recipient_phones is not null
    union all
    select
        message_id,
        occurred_at,
        name as identifier_type,
        value
    from list_external_ids

),

-- most are seen again and again, and each is judged once
list_values as (

    select distinct
        identifier_type,
        value
    from list_identifiers
    where value is not null

),

normalize_values as (

    select
        list_values.identifier_type as stated_type,
        list_values.value,
        {{ normal_identifier(
            'list_values.identifier_type', 'list_values.value', 'phone_numbers.phone'
        ) }} as identifier,
        case when list_values.value like '+%' then phone_numbers.phone end as phone
    from list_values
    left join phone_numbers
        on
            list_values.identifier_type in ('phone', 'anonymous_id')
            and list_values.value = phone_numbers.spelling

),

-- tools that know no more than an address send it as if it were a browser's id
recognise_addresses as (

    select
        stated_type,
        value,
        case
            when stated_type <> 'anonymous_id' then stated_type
            when {{ is_email('identifier') }} then 'email'
            when phone is not null then 'phone'
            else stated_type
        end as identifier_type,
        case
            when stated_type <> 'anonymous_id' then identifier
            when {{ is_email('identifier') }} then lower(identifier)
            else coalesce(phone, identifier)
        end as identifier
    from normalize_values
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

    select drop_placeholders.*
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

),

name_message_identifiers as (

    select distinct
        list_identifiers.message_id,
        list_identifiers.occurred_at,
        drop_blocked.identifier_type,
        drop_blocked.identifier
    from list_identifiers
    inner join drop_blocked
        on
            list_identifiers.identifier_type = drop_blocked.stated_type
            and list_identifiers.value = drop_blocked.value

)

select * from name_message_identifiers
