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
    (
        {{ identifier }} like '%_@_%._%'
        and translate({{ identifier }}, '/<>" ', '') = {{ identifier }}
    )
{%- endmacro %}

{# The first email in a text that says more, such as a name; empty without one. #}
{% macro email_in(text) -%}
    {%- set sign = '[^ <>"(){}\\[\\],;:/]' -%}
    regexp_extract({{ text }}, '{{ sign }}+@{{ sign }}+[.]{{ sign }}+', 0)
{%- endmacro %}

{# Signs that stand around a word or fill a form, and name nobody. #}
{% macro signs() -%}
    '-_.:;,/()[]{}<>"''#*+?!=@|~$ '
{%- endmacro %}

{# A name without the signs around it, in lower case, its words set apart by _. #}
{% macro bare_name(identifier) -%}
    replace(
        replace(trim(both {{ signs() }} from lower({{ identifier }})), ' ', '_'),
        '-', '_'
    )
{%- endmacro %}

{# Whether an id is one that forms and devices give where there is none: zeros and signs
   alone or, of a device, one and the same letter all along. #}
{% macro is_placeholder(identifier_type, identifier) -%}
    coalesce(
        translate({{ identifier }}, '0' || {{ signs() }}, '') = ''
        or (
            {{ identifier_type }} in ('anonymous_id', 'device_id', 'advertising_id')
            and length({{ identifier }}) >= 8
            and translate(
                {{ identifier }}, substr({{ identifier }}, 1, 1) || '-:', ''
            ) = ''
        ),
        false
    )
{%- endmacro %}
