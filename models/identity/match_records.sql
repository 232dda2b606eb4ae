-- One row per record and field: what an identifier that alone stands for a person says
-- of it today, and all that it said before in other words.
with

run as (

    select * from {{ ref('stg_run') }}

),

events as (

    select * from {{ ref('stg_events') }}

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

match_fields as (

    select * from {{ ref('match_fields') }}

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
        identify_calls.email,
        identify_calls.phone,
        identify_calls.street,
        identify_calls.city,
        identify_calls.region,
        identify_calls.postal_code,
        identify_calls.country,
        identify_calls.gender,
        cast(identify_calls.birthday as varchar) as birthday
    from identify_calls
    inner join run on run.is_matching

),

pair_traits as (

    select
        message_id,
        occurred_at,
        {%- set pairs = [] %}
        {%- for trait in [
            'first_name', 'last_name', 'email', 'phone', 'street', 'city', 'region',
            'postal_code', 'country', 'gender', 'birthday',
        ] %}
        {%- do pairs.append((trait, trait)) %}
        {%- endfor %}
        {{ unpivot(pairs) }} as pair
    from split_names

),

list_values as (

    select
        pair_traits.message_id,
        pair_traits.occurred_at,
        match_fields.field,
        match_fields.comparison,
        pair_traits.pair.value
    from pair_traits
    inner join match_fields
        on pair_traits.pair.name = match_fields.field and match_fields.trait is null
    where pair_traits.pair.value is not null
    union all
    select
        events.message_id,
        events.occurred_at,
        match_fields.field,
        match_fields.comparison,
        {{ json_text_at('events.traits', "'$.' || match_fields.trait") }} as value
    from events
    inner join run on run.is_matching
    inner join match_fields on match_fields.trait is not null
    where
        events.type = 'identify'
        and nullif(
            trim({{ json_text_at('events.traits', "'$.' || match_fields.trait") }}), ''
        ) is not null

),

-- an email alone describes nobody
find_descriptions as (

    select message_id
    from list_values
    group by message_id
    having max(case when comparison = 'email' then 0 else 1 end) = 1

),

choose_identifiers as (

    select
        find_descriptions.message_id,
        message_identifiers.identifier_type,
        message_identifiers.identifier
    from find_descriptions
    inner join message_identifiers
        on find_descriptions.message_id = message_identifiers.message_id
    inner join identifier_types
        on message_identifiers.identifier_type = identifier_types.identifier_type
    qualify row_number() over (
        partition by find_descriptions.message_id
        order by identifier_types.rank asc, message_identifiers.identifier asc
    ) = 1

),

state_values as (

    select
        chosen.identifier_type,
        chosen.identifier,
        list_values.*
    from list_values
    inner join choose_identifiers as chosen
        on list_values.message_id = chosen.message_id

),

take_latest as (

    select
        identifier_type,
        identifier,
        field,
        max_by(value, (occurred_at, message_id)) as value
    from state_values
    group by identifier_type, identifier, field

),

-- what differs from today in no field adds nothing to it
find_other_statements as (

    select
        state_values.identifier_type,
        state_values.identifier,
        state_values.message_id,
        md5(cast({{ ordered_list(
            "state_values.field || '=' || state_values.value", 'state_values.field asc'
        ) }} as varchar)) as statement
    from state_values
    inner join take_latest
        on
            state_values.identifier_type = take_latest.identifier_type
            and state_values.identifier = take_latest.identifier
            and state_values.field = take_latest.field
    group by
        state_values.identifier_type,
        state_values.identifier,
        state_values.message_id
    having
        max(
            case
                when lower(state_values.value) <> lower(take_latest.value) then 1
                else 0
            end
        ) = 1
    qualify row_number() over (
        partition by
            state_values.identifier_type, state_values.identifier, statement
        order by state_values.message_id asc
    ) = 1

),

unite_records as (

    select
        identifier_type,
        identifier,
        'latest' as statement,
        true as is_latest,
        field,
        value
    from take_latest
    union all
    select
        state_values.identifier_type,
        state_values.identifier,
        others.statement,
        false as is_latest,
        state_values.field,
        state_values.value
    from state_values
    inner join find_other_statements as others
        on
            state_values.message_id = others.message_id
            and state_values.identifier_type = others.identifier_type
            and state_values.identifier = others.identifier

)

select * from unite_records
