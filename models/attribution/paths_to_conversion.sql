-- One row per conversion and touch within look-back before it.
with

conversions as (

    select * from {{ ref('conversions') }}

),

touchpoints as (

    select * from {{ ref('touchpoints') }}

),

find_touches_within_lookback as (

    select
        conversions.conversion_id as path_id,
        conversions.profile_id,
        touchpoints.touchpoint_id,
        touchpoints.channel,
        touchpoints.touched_at,
        conversions.converted_at
    from conversions
    inner join touchpoints
        on
            conversions.profile_id = touchpoints.profile_id
            and conversions.converted_at >= touchpoints.touched_at
            and conversions.converted_at <= touchpoints.expires_at

),

number_touches as (

    select
        *,
        row_number() over (
            partition by path_id
            order by touched_at asc nulls last, touchpoint_id asc nulls last
        ) as position,
        count(*) over (partition by path_id) as touch_count,
        count(*) over (partition by path_id, channel) as channel_touch_count
    from find_touches_within_lookback

)

select * from number_touches
