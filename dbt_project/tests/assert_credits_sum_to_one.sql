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

attribution_models as (

    select distinct attribution_model from {{ ref('touch_weights') }}

),

expect_credits as (

    select
        conversions.conversion_id,
        attribution_models.attribution_model
    from conversions
    cross join attribution_models

),

find_gaps as (

    select
        expect_credits.conversion_id,
        expect_credits.attribution_model,
        sum_credits.credit
    from expect_credits
    full outer join sum_credits
        on
            expect_credits.conversion_id = sum_credits.conversion_id
            and expect_credits.attribution_model = sum_credits.attribution_model
    where
        expect_credits.conversion_id is null
        or coalesce(sum_credits.credit, 0) <> 1
        or sum_credits.smallest_credit < 0

)

select * from find_gaps
