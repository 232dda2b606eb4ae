{# An identifier as it is compared: emails in lower case, phones in E.164. #}
{% macro normal_identifier(identifier_type, identifier, phone) -%}
    case {{ identifier_type }}
        when 'email' then lower({{ bare(identifier) }})
        when 'phone' then {{ phone }}
        else {{ whole_number(identifier) }}
    end
{%- endmacro %}

{# Whether a text, in lower case and trimmed, has the form of an email. #}
{% macro is_email(identifier) -%}
    (
        {{ identifier }} like '%_@_%._%'
        and translate({{ identifier }}, '/<>" ', '') = {{ identifier }}
    )
{%- endmacro %}

{# Whether nobody is meant by an email, well formed or not, in lower case and trimmed: its
   name is a placeholder, or one letter at a domain of the same letter. #}
{% macro is_nobodys_email(identifier) -%}
    (
        {{ is_placeholder("split_part(" ~ identifier ~ ", '@', 1)") }}
        or translate(
            split_part({{ identifier }}, '.', 1), left({{ identifier }}, 1) || '@', ''
        ) = ''
    )
{%- endmacro %}

{# The first email in a text that says more, such as a name; empty without one. #}
{% macro email_in(text) -%}
    {%- set sign = '[^ <>"(){}\\[\\],;:/]' -%}
    regexp_extract({{ text }}, '{{ sign }}+@{{ sign }}+[.]{{ sign }}+', 0)
{%- endmacro %}

{# Whether a regular expression matches all of a text. Dispatched, as sqlfluff would
   otherwise read macros within macros to a depth that it refuses. #}
{% macro matches_whole(text, pattern) -%}
    {{ return(adapter.dispatch('matches_whole')(text, pattern)) }}
{%- endmacro %}

{% macro default__matches_whole(text, pattern) -%}
    regexp_full_match({{ text }}, '{{ pattern }}')
{%- endmacro %}
