-- One row per decision by hand about identifiers, these as they are compared.
with

identity_rules as (

    select * from {{ ref('identity_rules') }}

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
        identity_rules.reason
    from identity_rules
    left join phone_numbers as phones
        on identity_rules.identifier = phones.spelling
    left join phone_numbers as linked_phones
        on identity_rules.linked_identifier = linked_phones.spelling

)

select * from normalise_ends
