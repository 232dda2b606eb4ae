-- One row per identify call: the traits it states.
with

events as (

    select * from {{ ref('stg_events') }}

),

phone_numbers as (

    select * from {{ ref('stg_phone_numbers') }}

),

blocked_names as (

    select lower(identifier) as name
    from {{ ref('stg_identity_rules') }}
    where rule = 'block' and identifier_type is null

),

read_traits as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        timezone,
        {{ json_texts('traits', [
            '$.email',
            '$.phone',
            '$.firstName',
            '$.lastName',
            '$.name',
            '$.gender',
            '$.birthday',
            '$.loyaltyId',
            '$.address.street',
            '$.address.city',
            '$.address.state',
            '$.address.postalCode',
            '$.address.country',
            '$.preferredChannel',
            '$.goal',
            '$.createdAt',
            '$.emailVerified',
            '$.email_verified',
            '$.phoneVerified',
            '$.phone_verified',
            '$.phone_number_verified',
        ]) }} as fields
    from events
    where type = 'identify' and traits is not null

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
                and {{ bare_name("split_part(read_traits.fields[1], '@', 1)") }} <> ''
                then lower(trim(fields[1]))
        end as email,
        phone_numbers.phone,
        nullif(trim(fields[3]), '') as first_name,
        nullif(trim(fields[4]), '') as last_name,
        nullif(trim(fields[5]), '') as name,
        nullif(trim(fields[6]), '') as gender,
        try_cast(fields[7] as date) as birthday,
        nullif(trim(fields[8]), '') as loyalty_id,
        nullif(trim(fields[9]), '') as street,
        nullif(trim(fields[10]), '') as city,
        nullif(trim(fields[11]), '') as region,
        nullif(trim(fields[12]), '') as postal_code,
        nullif(trim(fields[13]), '') as country,
        lower(nullif(trim(fields[14]), '')) as preferred_channel,
        nullif(trim(fields[15]), '') as goal,
        cast(try_cast(fields[16] as timestamp with time zone) as timestamp)
            as created_at,
        timezone,
        try_cast(coalesce(fields[17], fields[18]) as boolean) as is_email_verified,
        try_cast(coalesce(fields[19], fields[20], fields[21]) as boolean)
            as is_phone_verified
    from read_traits
    left join phone_numbers on read_traits.fields[2] = phone_numbers.spelling
    left join blocked_names
        on
            {{ bare_name("split_part(read_traits.fields[1], '@', 1)") }}
            = blocked_names.name

)

select * from name_traits
