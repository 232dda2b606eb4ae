-- One row per audience and person in it, which is who meets all of its rules.
with

conditions as (

    select * from {{ ref('audience_conditions') }}

),

audience_values as (

    select * from {{ ref('audience_values') }}

),

meet_conditions as (

    select
        conditions.audience,
        conditions.rule_number,
        audience_values.profile_id
    from audience_values
    inner join conditions on audience_values.fact = conditions.fact
    where
        case conditions.comparison
            when 'is_known' then audience_values.fact_text is not null
            when 'is_unknown' then audience_values.fact_text is null
            when 'at_least'
                then audience_values.fact_amount >= conditions.operand_amount
            when 'at_most'
                then audience_values.fact_amount <= conditions.operand_amount
            when 'before' then audience_values.fact_at < conditions.operand_at
            when 'after' then audience_values.fact_at >= conditions.operand_at
            else
                coalesce(
                    array_contains(conditions.operands, audience_values.fact_text),
                    false
                ) = (conditions.comparison in ('is', 'in'))
        end

),

count_rules as (

    select
        audience,
        count(*) as rule_count
    from conditions
    group by audience

),

meet_all as (

    select
        meet_conditions.audience,
        meet_conditions.profile_id
    from meet_conditions
    inner join count_rules on meet_conditions.audience = count_rules.audience
    group by meet_conditions.audience, meet_conditions.profile_id
    having count(distinct meet_conditions.rule_number) = max(count_rules.rule_count)

)

select * from meet_all
