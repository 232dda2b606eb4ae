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
        conversion_id,
        touchpoint_id,
        attribution_model,
        cast(sum(weight) over path_so_far - weight as double)
        / sum(weight) over whole_path as share_start,
        cast(sum(weight) over path_so_far as double)
        / sum(weight) over whole_path as share_end
    from touch_weights
    window
        whole_path as (partition by conversion_id, attribution_model),
        path_so_far as (
            partition by conversion_id, attribution_model
            order by position asc nulls last
            rows between unbounded preceding and current row
        )

),

-- cutting credit and revenue where stretches meet keeps both sums exact
cut_credits as (

    select
        bound_shares.conversion_id,
        bound_shares.touchpoint_id,
        bound_shares.attribution_model,
        conversions.profile_id,
        conversions.converted_at,
        coalesce(touchpoints.channel, 'none') as channel,
        touchpoints.campaign,
        touchpoints.journey,
        touchpoints.step,
        cast(
            cast(bound_shares.share_end as decimal(18, 9))
            - cast(bound_shares.share_start as decimal(18, 9)) as decimal(18, 9)
        ) as credit,
        cast(
            cast(
                conversions.revenue_amount * bound_shares.share_end as decimal(18, 2)
            )
            - cast(
                conversions.revenue_amount * bound_shares.share_start
                as decimal(18, 2)
            ) as decimal(18, 2)
        ) as revenue_amount
    from bound_shares
    inner join conversions on bound_shares.conversion_id = conversions.conversion_id
    left join touchpoints on bound_shares.touchpoint_id = touchpoints.touchpoint_id

)

select * from cut_credits
