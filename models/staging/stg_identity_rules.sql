-- One row per decision by hand about identifiers, these as they are compared; an error
-- that says what to mend where one cannot be read.
with

identity_rules as (

    select * from {{ ref('identity_rules') }}

),

identifier_types as (

    select * from {{ ref('identifier_types') }}

),

phone_numbers as (

    select * from {{ ref('stg_phone_numbers') }}

),

normalise_ends as (

    select
        identity_rules.rule,
        identity_rules.identifier_type,
        {{ normal_identifier(
            'identity_rules.identifier_type',
            'identity_rules.identifier',
            'phones.phone'
        ) }} as identifier,
        identity_rules.linked_identifier_type,
        {{ normal_identifier(
            'identity_rules.linked_identifier_type',
            'identity_rules.linked_identifier',
            'linked_phones.phone'
        ) }} as linked_identifier,
        identity_rules.reason,
        coalesce(identity_rules.rule, '')
        || ',' || coalesce(identity_rules.identifier_type, '')
        || ',' || coalesce(identity_rules.identifier, '')
        || ',' || coalesce(identity_rules.linked_identifier_type, '')
        || ',' || coalesce(identity_rules.linked_identifier, '') as line
    from identity_rules
    left join phone_numbers as phones
        on identity_rules.identifier = phones.spelling
    left join phone_numbers as linked_phones
        on identity_rules.linked_identifier = linked_phones.spelling

),

name_ends as (

    select
        *,
        identifier_type || ':' || identifier as one,
        linked_identifier_type || ':' || linked_identifier as other
    from normalise_ends

),

find_mistakes as (

    select
        *,
        case
            when rule is null or rule not in ('block', 'deny', 'allow')
                then 'a rule is block, deny or allow'
            when
                identifier_type not in (
                    select identifier_types.identifier_type from identifier_types
                )
                or linked_identifier_type not in (
                    select identifier_types.identifier_type from identifier_types
                )
                then 'identifier_types.csv has no such type'
            when
                rule = 'block'
                and coalesce(linked_identifier_type, linked_identifier) is not null
                then 'block names one identifier'
            when
                rule <> 'block'
                and (identifier_type is null or linked_identifier_type is null)
                then 'deny and allow name two identifiers, each with its type'
            when
                identifier is null
                or (linked_identifier_type is not null and linked_identifier is null)
                then 'an identifier is missing or is no phone number'
            when
                rule <> 'block'
                and (
                    (identifier_type = 'email' and not {{ is_email('identifier') }})
                    or (
                        linked_identifier_type = 'email'
                        and not {{ is_email('linked_identifier') }}
                    )
                )
                then 'an email has a name, an @ and a domain'
            when one = other then 'both are one identifier'
            when
                rule <> 'block'
                and count(case when rule = 'deny' then 1 end) over pair > 0
                and count(case when rule = 'allow' then 1 end) over pair > 0
                then 'another row says the opposite of the two'
        end as mistake
    from name_ends
    window pair as (partition by least(one, other), greatest(one, other))

),

validation_errors as (

    select
        {{ joined_list(ordered_list(
            "'identity_rules.csv, \"' || line || '\": ' || mistake", 'line asc'
        ), '; ') }} as mistakes
    from find_mistakes
    where mistake is not null

),

stop_on_mistakes as (

    select
        find_mistakes.rule,
        find_mistakes.identifier_type,
        find_mistakes.identifier,
        find_mistakes.linked_identifier_type,
        find_mistakes.linked_identifier,
        find_mistakes.reason
    from find_mistakes
    cross join validation_errors
    where {{ raise_if_any('validation_errors.mistakes') }}

)

select * from stop_on_mistakes
