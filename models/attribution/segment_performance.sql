-- One row per RFM segment and attribution model: the sum of its credits.
with

credits as (

    select * from {{ ref('credits') }}

),

rfm as (

    select * from {{ ref('rfm') }}

),

name_segments as (

    select
        credits.*,
        coalesce(rfm.rfm_segment, 'none') as rfm_segment
    from credits
    left join rfm on credits.profile_id = rfm.profile_id

),

sum_credits as (

    select
        rfm_segment,
        attribution_model,
        count(touchpoint_id) as credit_count,
        cast(sum(credit) as decimal(38, 9)) as conversion_count,
        cast(sum(revenue_amount) as decimal(38, 2)) as revenue_amount
    from name_segments
    group by rfm_segment, attribution_model

)

select * from sum_credits
