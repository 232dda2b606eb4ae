-- One row per rule of an audience, ready to be compared; an error that tells what to
-- mend where one cannot be.
with

audience_operands as (

    select * from {{ ref('audience_operands') }}

),

name_mistakes as (

    select distinct
        'audience_rules.csv, rule "' || coalesce(audience, '') || ','
        || coalesce(fact, '') || ',' || coalesce(comparison, '') || ','
        || coalesce(value, '') || '": ' || mistake as mistake
    from audience_operands
    where mistake is not null

),

validation_errors as (

    select
        {{ joined_list(ordered_list('mistake', 'mistake asc'), '; ') }} as mistakes
    from name_mistakes

),

gather_operands as (

    select
        audience,
        rule_number,
        fact,
        kind,
        comparison,
        {{ ordered_list('operand', 'operand asc') }} as operands,
        max(operand_amount) as operand_amount,
        max(operand_at) as operand_at
    from audience_operands
    group by audience, rule_number, fact, kind, comparison

),

stop_on_mistakes as (

    select gather_operands.*
    from gather_operands
    cross join validation_errors
    where {{ raise_if_any('validation_errors.mistakes') }}

)

select * from stop_on_mistakes
