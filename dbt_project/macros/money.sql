{# An amount times a rate, rounded once; null without a rate or beyond the room that
   amounts have. #}
{% macro exchanged(amount, rate) -%}
    cast(
        try_cast(
            cast({{ amount }} as decimal(14, 2)) * {{ rate }} as decimal(14, 2)
        ) as decimal(18, 2)
    )
{%- endmacro %}
