{# The texts of a list as one text; nulls are left out. #}
{% macro joined_list(list, separator) -%}
    {{ return(adapter.dispatch('joined_list')(list, separator)) }}
{%- endmacro %}

{% macro default__joined_list(list, separator) -%}
    array_to_string({{ list }}, '{{ separator }}')
{%- endmacro %}

{% macro spark__joined_list(list, separator) -%}
    array_join({{ list }}, '{{ separator }}')
{%- endmacro %}
