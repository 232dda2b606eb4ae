{# A key for the set of identifiers in a group of rows, whatever their order. #}
{% macro identifier_set(identifier_type, identifier) -%}
    {{ return(adapter.dispatch('identifier_set')(identifier_type, identifier)) }}
{%- endmacro %}

{% macro default__identifier_set(identifier_type, identifier) -%}
    bit_xor(md5_number({{ identifier_type }} || '␟' || {{ identifier }}))
{%- endmacro %}

{% macro spark__identifier_set(identifier_type, identifier) -%}
    md5(array_join(array_sort(array_agg(
        {{ identifier_type }} || '␟' || {{ identifier }}
    )), '␞'))
{%- endmacro %}
