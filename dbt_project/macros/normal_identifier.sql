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

{# Whether mail can be sent to an email; `activations.channels.mail` has the same rule.
   A dotted name of at most 64 ASCII characters, then a domain of two labels or more; a
   label may hold letters beyond ASCII, which go out in Punycode. #}
{% macro is_mail_address(address) -%}
    {%- set atom = "[a-zA-Z0-9!#$%&''*+/=^_`{|}~-]+" -%}
    {%- set letter = 'a-zA-Z\\x{c0}-\\x{1fff}\\x{2c00}-\\x{2dff}\\x{3005}-\\x{d7ff}'
        ~ '\\x{f900}-\\x{faff}\\x{20000}-\\x{3ffff}' -%}
    {%- set inner = '[0-9' ~ letter ~ '-]{0,61}[0-9' ~ letter ~ ']' -%}
    {%- set label = '[0-9' ~ letter ~ '](?:' ~ inner ~ ')?' -%}
    (
        length({{ address }}) <= 254
        and length(split_part({{ address }}, '@', 1)) <= 64
        and {{ matches_whole(
            address,
            atom ~ '(?:[.]' ~ atom ~ ')*@(?:' ~ label ~ '[.])+[' ~ letter ~ ']' ~ inner
        ) }}
    )
{%- endmacro %}

{# Whether a regular expression matches all of a text. #}
{% macro matches_whole(text, pattern) -%}
    {{ return(adapter.dispatch('matches_whole')(text, pattern)) }}
{%- endmacro %}

{% macro default__matches_whole(text, pattern) -%}
    regexp_full_match({{ text }}, '{{ pattern }}')
{%- endmacro %}
