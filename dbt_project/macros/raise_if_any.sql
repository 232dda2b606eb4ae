{# True where there is nothing to tell, else an error that tells it and ends the run. #}
{% macro raise_if_any(told) -%}
    {{ return(adapter.dispatch('raise_if_any')(told)) }}
{%- endmacro %}

{% macro default__raise_if_any(told) -%}
    case when {{ told }} is null then true else error({{ told }}) end
{%- endmacro %}

{% macro spark__raise_if_any(told) -%}
    case when {{ told }} is null then true else raise_error({{ told }}) end
{%- endmacro %}
