-- No cent is lost or made up when revenue is split over touches.
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
        sum(revenue_amount) as revenue_amount
    from credits
    group by conversion_id, attribution_model

),

find_differences as (

    select
        conversions.conversion_id,
        sum_credits.attribution_model,
        conversions.revenue_amount as converted_amount,
        sum_credits.revenue_amount as credited_amount
    from conversions
    left join sum_credits
        on conversions.conversion_id = sum_credits.conversion_id
    where
        sum_credits.conversion_id is null
        or sum_credits.revenue_amount is distinct from conversions.revenue_amount

)

select * from find_differences
