-- One row per conversion, touch and attribution model that gives the touch a weight. A
-- conversion without touch has a row per model that no touch owns.
{#- Whole numbers, so that sums do not depend on the order of adding up. #}
{%- set unit = 1000000000000 %}
{#- Where age or rarity counts, no touch weighs nothing. #}
{%- set weights = {
    'first_touch': 'case when position = 1 then 1 else 0 end',
    'last_touch': 'case when position = touch_count then 1 else 0 end',
    'linear': '1',
    'position_based': 'round(' ~ unit ~ ' * case
        when touch_count = 1 then 1
        when touch_count = 2 and first_touch_share + last_touch_share = 0 then 1
        when position = 1 then first_touch_share
        when position = touch_count then last_touch_share
        else greatest(
            0, (1 - first_touch_share - last_touch_share) / (touch_count - 2)
        )
    end)',
    'time_decay': 'greatest(1, round(' ~ unit ~ ' * power(
        0.5, age_seconds / (86400.0 * half_life_days)
    )))',
    'markov': 'greatest(1, round(' ~ unit ~ ' * removal_effect))',
} %}

with

conversions as (

    select * from {{ ref('conversions') }}

),

paths_to_conversion as (

    select * from {{ ref('paths_to_conversion') }}

),

removal_effects as (

    select * from {{ ref('removal_effects') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

describe_touches as (

    select
        conversions.conversion_id,
        paths.touchpoint_id,
        paths.position,
        paths.touch_count,
        {{ seconds_between('paths.touched_at', 'paths.converted_at') }} as age_seconds,
        removal_effects.removal_effect,
        attribution_rules.first_touch_share,
        attribution_rules.last_touch_share,
        attribution_rules.half_life_days
    from conversions
    cross join attribution_rules
    left join paths_to_conversion as paths on conversions.conversion_id = paths.path_id
    left join removal_effects on paths.channel = removal_effects.channel

),

weigh_touches as (

    {%- for attribution_model, weight in weights.items() %}
    select
        conversion_id,
        touchpoint_id,
        position,
        '{{ attribution_model }}' as attribution_model,
        cast(
            case when touchpoint_id is null then 1 else {{ weight }} end as bigint
        ) as weight
    from describe_touches
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

keep_weights as (

    select * from weigh_touches
    where weight > 0

)

select * from keep_weights
