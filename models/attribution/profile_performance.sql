-- One row per profile and attribution model: the sum of its credits.
with

credits as (

    select * from {{ ref('credits') }}

),

sum_credits as (

    select
        profile_id,
        attribution_model,
        count(touchpoint_id) as credit_count,
        cast(sum(credit) as decimal(38, 9)) as conversion_count,
        cast(sum(revenue_amount) as decimal(38, 2)) as revenue_amount
    from credits
    group by profile_id, attribution_model

)

select * from sum_credits
