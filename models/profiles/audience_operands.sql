{%- set comparisons = {
    'text': ['is', 'is_not', 'in', 'not_in', 'is_known', 'is_unknown'],
    'number': [
        'is', 'is_not', 'in', 'not_in', 'at_least', 'at_most', 'is_known', 'is_unknown',
    ],
    'date': ['before', 'after', 'is_known', 'is_unknown'],
    'identifier': ['is', 'in'],
} -%}
-- One row per rule of an audience and value that it compares with, spelt as facts are
-- spelt, and what is wrong with it.
with

audience_rules as (

    select * from {{ ref('audience_rules') }}

),

audience_facts as (

    select * from {{ ref('audience_facts') }}

),

identifier_types as (

    select * from {{ ref('identifier_types') }}

),

split_values as (

    select
        audience_rules.*,
        audience_facts.kind,
        row_number() over (
            partition by audience_rules.audience
            order by
                audience_rules.fact asc nulls first,
                audience_rules.comparison asc nulls first,
                audience_rules.value asc nulls first
        ) as rule_number,
        {{ split_bars("coalesce(audience_rules.value, '')") }} as spellings
    from audience_rules
    left join audience_facts on audience_rules.fact = audience_facts.fact

),

list_operands as (

    select
        *,
        {{ unnest_items('spellings') }} as spelling
    from split_values

),

read_operands as (

    select
        audience,
        rule_number,
        fact,
        kind,
        comparison,
        value,
        trim(spelling) as spelling,
        case when kind = 'identifier' then split_part(trim(spelling), ':', 1) end
            as identifier_type,
        case when kind = 'number' then try_cast(trim(spelling) as decimal(18, 6)) end
            as operand_amount,
        case
            when kind = 'date' then cast({{ iso_date('trim(spelling)') }} as timestamp)
        end as operand_at
    from list_operands

),

write_operands as (

    select
        *,
        case kind
            when 'number' then cast(operand_amount as varchar)
            when 'identifier'
                then identifier_type || ':' || {{ normal_identifier(
                    'identifier_type',
                    'substr(spelling, length(identifier_type) + 2)',
                    'trim(substr(spelling, length(identifier_type) + 2))',
                ) }}
            else lower(spelling)
        end as operand
    from read_operands

),

find_mistakes as (

    select
        audience,
        rule_number,
        fact,
        kind,
        comparison,
        value,
        operand,
        operand_amount,
        operand_at,
        case
            when audience is null then 'an audience is missing'
            when kind is null then 'there is no such fact in audience_facts.csv'
            {%- for kind, names in comparisons.items() %}
            when
                kind = '{{ kind }}'
                and coalesce(comparison, '') not in (
                    {%- for name in names %}
                    '{{ name }}'{{ ',' if not loop.last }}
                    {%- endfor %}
                )
                then 'this fact is compared by {{ names | join(", ") }}'
            {%- endfor %}
            when comparison in ('is_known', 'is_unknown')
                then case when value is not null then 'it takes no value' end
            when spelling = '' then 'a value is missing'
            when comparison not in ('in', 'not_in') and value like '%|%'
                then 'only in and not_in take several values'
            when kind = 'number' and operand_amount is null
                then 'the value is no number'
            when kind = 'date' and operand_at is null
                then 'the value is no date; write it like 2026-01-31'
            when
                kind = 'identifier'
                and (
                    operand like '%:'
                    or identifier_type not in (
                        select identifier_types.identifier_type from identifier_types
                    )
                )
                then 'write the value like user_id:123, with a type of identifier_types'
        end as mistake
    from write_operands

)

select * from find_mistakes
