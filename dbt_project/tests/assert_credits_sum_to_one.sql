-- Every conversion is credited once, whole, under every attribution model.
{{ config(meta={'dagster': {'ref': {'name': 'credits'}}}) }}
with

conversions as (

    select * from {{ ref('conversions') }}

),

credits as (

    select * from {{ ref('credits') }}

),

sum_credits as (

    select
        conversion_id,
        attribution_model,
        sum(credit) as credit,
        min(credit) as smallest_credit
    from credits
    group by conversion_id, attribution_model

),

list_models as (

    select count(distinct attribution_model) as model_count from credits

),

count_models as (

    select
        conversion_id,
        sum(case when credit = 1 and smallest_credit >= 0 then 1 else 0 end)
            as model_count
    from sum_credits
    group by conversion_id

),

find_gaps as (

    select
        conversions.conversion_id,
        count_models.model_count
    from conversions
    cross join list_models
    full outer join count_models
        on conversions.conversion_id = count_models.conversion_id
    where
        conversions.conversion_id is null
        or coalesce(count_models.model_count, 0) <> list_models.model_count

)

select * from find_gaps
