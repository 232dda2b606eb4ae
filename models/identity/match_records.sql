-- One row per identifier that alone stands for a record: what it last said of itself.
with

run as (

    select * from {{ ref('stg_run') }}

),

identify_calls as (

    select * from {{ ref('stg_identify_calls') }}

),

message_identifiers as (

    select * from {{ ref('stg_identifiers') }}

),

identifier_types as (

    select * from {{ ref('identifier_types') }}

),

split_names as (

    select
        identify_calls.message_id,
        identify_calls.occurred_at,
        coalesce(
            identify_calls.first_name,
            case
                when identify_calls.last_name is null
                    then nullif(split_part(identify_calls.name, ' ', 1), '')
            end
        ) as first_name,
        coalesce(
            identify_calls.last_name,
            case
                when
                    identify_calls.first_name is null
                    and identify_calls.name like '% %'
                    then split_part(identify_calls.name, ' ', -1)
            end
        ) as last_name,
        identify_calls.street,
        identify_calls.city,
        identify_calls.region,
        identify_calls.postal_code,
        identify_calls.birthday
    from identify_calls
    inner join run on run.is_matching

),

choose_identifiers as (

    select
        message_identifiers.identifier_type,
        message_identifiers.identifier,
        split_names.*
    from split_names
    inner join message_identifiers
        on split_names.message_id = message_identifiers.message_id
    inner join identifier_types
        on message_identifiers.identifier_type = identifier_types.identifier_type
    where
        coalesce(split_names.last_name, split_names.street) is not null
        or coalesce(split_names.first_name, split_names.city) is not null
        or split_names.birthday is not null
    qualify row_number() over (
        partition by split_names.message_id
        order by identifier_types.rank asc, message_identifiers.identifier asc
    ) = 1

),

take_latest as (

    select
        identifier_type,
        identifier,
        {%- for trait in [
            'first_name', 'last_name', 'street', 'city', 'region', 'postal_code',
            'birthday',
        ] %}
        max_by({{ trait }}, (occurred_at, message_id))
            filter (where {{ trait }} is not null) as {{ trait }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from choose_identifiers
    group by identifier_type, identifier

)

select * from take_latest
