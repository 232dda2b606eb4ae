-- One row per conversion, touch and attribution model that gives the touch credit.
with

conversions as (

    select * from {{ ref('conversions') }}

),

touchpoints as (

    select * from {{ ref('touchpoints') }}

),

touch_weights as (

    select * from {{ ref('touch_weights') }}

),

bound_shares as (

    select
        *,
        cast(weight_so_far - weight as double) / weight_total as share_start,
        cast(weight_so_far as double) / weight_total as share_end
    from touch_weights

),

-- cutting credit and revenue where stretches meet keeps both sums exact
cut_credits as (

    select
        shares.conversion_id,
        shares.touchpoint_id,
        shares.attribution_model,
        conversions.profile_id,
        conversions.converted_at,
        coalesce(touchpoints.channel, 'none') as channel,
        touchpoints.campaign,
        touchpoints.journey,
        touchpoints.step,
        cast(
            cast(shares.share_end as decimal(18, 9))
            - cast(shares.share_start as decimal(18, 9)) as decimal(18, 9)
        ) as credit,
        cast(
            cast(conversions.revenue_amount * shares.share_end as decimal(18, 2))
            - cast(conversions.revenue_amount * shares.share_start as decimal(18, 2))
            as decimal(18, 2)
        ) as revenue_amount
    from bound_shares as shares
    inner join conversions on shares.conversion_id = conversions.conversion_id
    left join touchpoints on shares.touchpoint_id = touchpoints.touchpoint_id

)

select * from cut_credits
