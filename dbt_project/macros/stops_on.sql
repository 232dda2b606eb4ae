{# True where there is nothing to tell, else an error that tells it and ends the run. #}
{% macro stops_on(told) -%}
    {{ return(adapter.dispatch('stops_on')(told)) }}
{%- endmacro %}

{% macro default__stops_on(told) -%}
    case when {{ told }} is null then true else error({{ told }}) end
{%- endmacro %}

{% macro spark__stops_on(told) -%}
    case when {{ told }} is null then true else raise_error({{ told }}) end
{%- endmacro %}
