{# An identifier as it is compared: emails in lower case, phones in E.164. #}
{% macro normal_identifier(identifier_type, identifier, phone) -%}
    case {{ identifier_type }}
        when 'email' then lower(trim({{ identifier }}))
        when 'phone' then {{ phone }}
        else trim({{ identifier }})
    end
{%- endmacro %}

{# Whether a text, in lower case and trimmed, has the form of an email. #}
{% macro is_email(identifier) -%}
    ({{ identifier }} like '%_@_%._%')
{%- endmacro %}
