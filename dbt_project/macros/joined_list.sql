{# The texts of a list as one text; nulls are left out. #}
{% macro joined_list(list, separator) -%}
    array_to_string({{ list }}, '{{ separator }}')
{%- endmacro %}
