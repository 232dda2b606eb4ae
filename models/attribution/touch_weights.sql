-- One row per conversion, touch and attribution model that gives the touch weight, and
-- where in the sum of the path the weight lies.
{{ config(materialized='view') }}
{#- Whole numbers, so that sums do not depend on the order of adding up. #}
{%- set unit = 1000000000000 %}
{%- set age = seconds_between('touched_at', 'converted_at') %}
{%- set weights = {
    'first_touch': 'case when position = 1 then 1 else 0 end',
    'last_touch': 'case when position = touch_count then 1 else 0 end',
    'linear': '1',
    'position_based': unit ~ ' * case
            when touch_count = 1 then 1
            when touch_count = 2 and first_touch_share + last_touch_share = 0 then 1
            when position = 1 then first_touch_share
            when position = touch_count then last_touch_share
            else greatest(
                0, (1 - first_touch_share - last_touch_share) / (touch_count - 2)
            )
        end',
    'time_decay': 'greatest(
            1, ' ~ unit ~ ' * power(0.5, ' ~ age ~ ' / (86400.0 * half_life_days))
        )',
    'markov': 'greatest(1, ' ~ unit ~ ' * removal_effect)',
    'shapley': unit ~ ' / cast(channel_touch_count as double)',
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

-- what each rule looks at
describe_touches as (

    select
        conversions.conversion_id,
        touches.touchpoint_id,
        touches.touched_at,
        touches.converted_at,
        coalesce(touches.position, 1) as position,
        touches.touch_count,
        touches.channel_touch_count,
        attribution_rules.first_touch_share,
        attribution_rules.last_touch_share,
        attribution_rules.half_life_days,
        removal_effects.removal_effect
    from conversions
    cross join attribution_rules
    left join paths_to_conversion as touches
        on conversions.conversion_id = touches.path_id
    left join removal_effects
        on
            touches.channel = removal_effects.channel
            and attribution_rules.markov_order = removal_effects.markov_order

),

-- where age or rarity counts, no touch weighs nothing; under `shapley` every channel of
-- a path weighs the same, which is its Shapley value where a set of channels is worth
-- the conversions of the paths within it (Harsanyi's dividends, 1963). A conversion
-- without touch is one stretch that no touch owns.
weigh_touches as (

    select
        conversion_id,
        touchpoint_id,
        position
        {%- for attribution_model, weight in weights.items() %},
        cast(
            case when touchpoint_id is null then 1 else round({{ weight }}) end
            as bigint
        ) as {{ attribution_model }}
        {%- endfor %}
    from describe_touches

),

add_up_weights as (

    select
        *
        {%- for attribution_model in weights %},
        sum({{ attribution_model }}) over whole_path as {{ attribution_model }}_total,
        sum({{ attribution_model }}) over path_so_far as {{ attribution_model }}_so_far
        {%- endfor %}
    from weigh_touches
    window
        whole_path as (partition by conversion_id),
        path_so_far as (
            partition by conversion_id
            order by position asc nulls last
            rows between unbounded preceding and current row
        )

),

list_weights as (

    {%- for attribution_model in weights %}
    select
        conversion_id,
        touchpoint_id,
        '{{ attribution_model }}' as attribution_model,
        {{ attribution_model }} as weight,
        cast({{ attribution_model }}_so_far as bigint) as weight_so_far,
        cast({{ attribution_model }}_total as bigint) as weight_total
    from add_up_weights
    where {{ attribution_model }} > 0
    {{- ' union all' if not loop.last }}
    {%- endfor %}

)

select * from list_weights
