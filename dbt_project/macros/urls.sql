{# A parameter of a query that begins with &, decoded; null where it is absent or empty. #}
{% macro url_parameter(query, parameter) -%}
    {{ return(adapter.dispatch('url_parameter')(query, parameter)) }}
{%- endmacro %}

{% macro default__url_parameter(query, parameter) -%}
    {%- set text -%}
        replace(regexp_extract({{ query }}, '(?i)&{{ parameter }}=([^&]*)', 1), '+', ' ')
    {%- endset -%}
    nullif(trim(coalesce(try(url_decode({{ text }})), {{ text }})), '')
{%- endmacro %}

{% macro spark__url_parameter(query, parameter) -%}
    {%- set text -%}
        replace(regexp_extract({{ query }}, '(?i)&{{ parameter }}=([^&]*)', 1), '+', ' ')
    {%- endset -%}
    nullif(trim(coalesce(try_url_decode({{ text }}), {{ text }})), '')
{%- endmacro %}
