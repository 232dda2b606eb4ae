{# What is left of 1 after the time between two moments: half per half-life. #}
{% macro decay(moment, as_of, half_life_days) -%}
    power(
        cast(0.5 as double),
        greatest({{ seconds_between(moment, as_of) }}, 0)
        / cast(86400 * {{ half_life_days }} as double)
    )
{%- endmacro %}
