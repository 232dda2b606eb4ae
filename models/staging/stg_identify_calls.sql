-- One row per identify call: the traits it states.
{{ config(materialized='by_message') }}

with

events as (

    select * from {{ ref('stg_events') }}
    where {{ is_new_message() }}

),

phone_numbers as (

    select * from {{ ref('stg_phone_numbers') }}

),

blocked_names as (

    select {{ spelled('identifier') }} as name
    from {{ ref('stg_identity_rules') }}
    where rule = 'block' and identifier_type is null

),

channel_spellings as (

    select * from {{ spellings('channel') }}
    where meaning <> 'all'

),

list_calls as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        timezone,
        traits,
        {{ json_object_at('traits', '$.address') }} as address
    from events
    where type = 'identify' and traits is not null

),

address_keys as (

    {{ key_spellings('address', 'list_calls', 'address') | indent(4) }}

),

read_fields as (

    select
        list_calls.message_id,
        list_calls.anonymous_id,
        list_calls.user_id,
        list_calls.occurred_at,
        list_calls.timezone,
        {{ json_texts(
            respelled('list_calls.address', 'address_keys.respellings'),
            ['$.street', '$.city', '$.state', '$.postalCode', '$.country']
        ) }} as address,
        {{ json_texts('list_calls.traits', [
            '$.email',
            '$.phone',
            '$.firstName',
            '$.lastName',
            '$.name',
            '$.gender',
            '$.birthday',
            '$.loyaltyId',
            '$.street',
            '$.city',
            '$.state',
            '$.postalCode',
            '$.country',
            '$.preferredChannel',
            '$.goal',
            '$.createdAt',
            '$.emailVerified',
            '$.phoneVerified',
        ]) }} as fields
    from list_calls
    left join address_keys on json_keys(list_calls.address) = address_keys.keys

),

read_traits as (

    select
        *,
        lower({{ bare('fields[1]') }}) as email
    from read_fields

),

name_traits as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        case
            when
                blocked_names.name is null
                and not {{ is_nobodys_email('read_traits.email') }}
                then read_traits.email
        end as email,
        phone_numbers.phone,
        nullif(trim(fields[3]), '') as first_name,
        nullif(trim(fields[4]), '') as last_name,
        nullif(trim(fields[5]), '') as name,
        nullif(trim(fields[6]), '') as gender,
        {{ plausible_date('fields[7]') }} as birthday,
        {{ known_name('fields[8]') }} as loyalty_id,
        coalesce(nullif(trim(address[1]), ''), nullif(trim(fields[9]), ''))
            as street,
        coalesce(nullif(trim(address[2]), ''), nullif(trim(fields[10]), ''))
            as city,
        coalesce(nullif(trim(address[3]), ''), nullif(trim(fields[11]), ''))
            as region,
        coalesce(
            nullif({{ whole_number('address[4]') }}, ''),
            nullif({{ whole_number('fields[12]') }}, '')
        ) as postal_code,
        coalesce(nullif(trim(address[5]), ''), nullif(trim(fields[13]), ''))
            as country,
        coalesce(channel_spellings.meaning, lower(nullif(trim(fields[14]), '')))
            as preferred_channel,
        nullif(trim(fields[15]), '') as goal,
        {{ plausible_moment('fields[16]') }} as created_at,
        timezone,
        try_cast(fields[17] as boolean) as is_email_verified,
        try_cast(fields[18] as boolean) as is_phone_verified,
        {{ unread([
            (
                'email',
                'read_traits.email',
                'case when ' ~ is_email('read_traits.email')
                ~ ' then read_traits.email end',
            ),
            ('phone', 'trim(fields[2])', 'phone_numbers.phone'),
            ('birthday', 'fields[7]', plausible_date('fields[7]')),
            ('channel', 'trim(fields[14])', 'channel_spellings.meaning'),
            ('created_at', 'fields[16]', plausible_moment('fields[16]')),
            ('email_verified', 'fields[17]', 'try_cast(fields[17] as boolean)'),
            ('phone_verified', 'fields[18]', 'try_cast(fields[18] as boolean)'),
        ]) }} as unread
    from read_traits
    left join phone_numbers on read_traits.fields[2] = phone_numbers.spelling
    left join channel_spellings
        on {{ spelled('fields[14]') }} = channel_spellings.spelled
    left join blocked_names
        on
            {{ spelled("split_part(read_traits.email, '@', 1)") }}
            = blocked_names.name
            and blocked_names.name <> ''

)

select * from name_traits
