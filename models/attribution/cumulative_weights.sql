-- One row per conversion and touch: where its weight begins and ends in the sum.
{{ config(materialized='view') }}
{%- set spread_models = ['linear', 'position_based', 'time_decay', 'markov'] %}

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

-- a conversion without touch is one stretch that no touch owns
add_up_weights as (

    select
        conversions.conversion_id,
        conversions.profile_id,
        conversions.converted_at,
        conversions.revenue_amount,
        touch_weights.touchpoint_id,
        coalesce(touchpoints.channel, 'none') as channel,
        touchpoints.campaign,
        touchpoints.journey,
        touchpoints.step,
        coalesce(touch_weights.first_touch, 1) as first_touch_weight,
        cast(1 as bigint) as first_touch_so_far,
        cast(1 as bigint) as first_touch_total,
        coalesce(touch_weights.last_touch, 1) as last_touch_weight,
        coalesce(touch_weights.last_touch, 1) as last_touch_so_far,
        cast(1 as bigint) as last_touch_total,
        {%- for attribution_model in spread_models %}
        coalesce({{ attribution_model }}, 1) as {{ attribution_model }}_weight,
        cast(
            sum(coalesce({{ attribution_model }}, 1)) over path_so_far as bigint
        ) as {{ attribution_model }}_so_far,
        cast(
            sum(coalesce({{ attribution_model }}, 1)) over whole_path as bigint
        ) as {{ attribution_model }}_total
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
    from conversions
    left join touch_weights
        on conversions.conversion_id = touch_weights.conversion_id
    left join touchpoints
        on touch_weights.touchpoint_id = touchpoints.touchpoint_id
    window
        whole_path as (partition by conversions.conversion_id),
        path_so_far as (
            partition by conversions.conversion_id
            order by touch_weights.position asc nulls last
            rows between unbounded preceding and current row
        )

)

select * from add_up_weights
