-- One row per journey step and attribution model: the sum of its credits.
with

credits as (

    select * from {{ ref('credits') }}

),

sum_credits as (

    select
        coalesce(journey, 'none') as journey,
        coalesce(step, 'none') as step,
        attribution_model,
        count(touchpoint_id) as credit_count,
        cast(sum(credit) as decimal(38, 9)) as conversion_count,
        cast(sum(revenue_amount) as decimal(38, 2)) as revenue_amount
    from credits
    group by 1, 2, 3

)

select * from sum_credits
