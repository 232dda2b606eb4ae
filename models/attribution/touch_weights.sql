-- One row per conversion and touch, with its weight under each attribution model.
{#- Whole numbers, so that sums do not depend on the order of adding up. #}
{%- set unit = 1000000000000 %}
{%- set age = seconds_between(
    'paths_to_conversion.touched_at', 'paths_to_conversion.converted_at'
) %}

with

paths_to_conversion as (

    select * from {{ ref('paths_to_conversion') }}

),

removal_effects as (

    select * from {{ ref('removal_effects') }}

),

attribution_rules as (

    select * from {{ ref('attribution_rules') }}

),

-- where age or rarity counts, no touch weighs nothing
weigh_touches as (

    select
        paths_to_conversion.path_id as conversion_id,
        paths_to_conversion.touchpoint_id,
        paths_to_conversion.position,
        cast(
            case when paths_to_conversion.position = 1 then 1 else 0 end as bigint
        ) as first_touch,
        cast(
            case
                when paths_to_conversion.position = paths_to_conversion.touch_count
                    then 1
                else 0
            end as bigint
        ) as last_touch,
        cast(1 as bigint) as linear,
        cast(round({{ unit }} * case
            when paths_to_conversion.touch_count = 1 then 1
            when
                paths_to_conversion.touch_count = 2
                and attribution_rules.first_touch_share
                + attribution_rules.last_touch_share = 0
                then 1
            when paths_to_conversion.position = 1
                then attribution_rules.first_touch_share
            when paths_to_conversion.position = paths_to_conversion.touch_count
                then attribution_rules.last_touch_share
            else greatest(0, (
                1 - attribution_rules.first_touch_share
                - attribution_rules.last_touch_share
            ) / (paths_to_conversion.touch_count - 2))
        end) as bigint) as position_based,
        cast(greatest(1, round({{ unit }} * power(
            0.5, {{ age }} / (86400.0 * attribution_rules.half_life_days)
        ))) as bigint) as time_decay,
        cast(
            greatest(1, round({{ unit }} * removal_effects.removal_effect)) as bigint
        ) as markov
    from paths_to_conversion
    cross join attribution_rules
    inner join removal_effects
        on paths_to_conversion.channel = removal_effects.channel

)

select * from weigh_touches
