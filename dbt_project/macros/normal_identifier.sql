{# A phone number as `+` and digits; null for fewer than seven digits. #}
{% macro phone_digits(text) -%}
    case
        when length(regexp_replace({{ text }}, '[^0-9]', '', 'g')) >= 7
            then '+' || ltrim(regexp_replace({{ text }}, '[^0-9]', '', 'g'), '0')
    end
{%- endmacro %}

{# An identifier as it is compared: emails in lower case, phones as digits. #}
{% macro normal_identifier(identifier_type, identifier) -%}
    case {{ identifier_type }}
        when 'email' then lower(trim({{ identifier }}))
        when 'phone' then {{ phone_digits(identifier) }}
        else trim({{ identifier }})
    end
{%- endmacro %}
