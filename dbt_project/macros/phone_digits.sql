{# A phone number as `+` and digits; null for fewer than seven digits. #}
{% macro phone_digits(text) -%}
    case
        when length(regexp_replace({{ text }}, '[^0-9]', '', 'g')) >= 7
            then '+' || ltrim(regexp_replace({{ text }}, '[^0-9]', '', 'g'), '0')
    end
{%- endmacro %}
