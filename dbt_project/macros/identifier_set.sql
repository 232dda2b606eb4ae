{# A key for the set of identifiers in a group of rows, whatever their order. #}
{% macro identifier_set(identifier_type, identifier) -%}
    bit_xor(md5_number({{ identifier_type }} || '␟' || {{ identifier }}))
{%- endmacro %}
