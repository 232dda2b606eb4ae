{# An amount in the base currency; null where no rate is known. #}
{% macro in_base_currency(amount, currency, base_currency, rate) -%}
    cast(
        case
            when {{ currency }} = {{ base_currency }} then {{ amount }}
            else {{ amount }} * {{ rate }}
        end as decimal(18, 2)
    )
{%- endmacro %}
