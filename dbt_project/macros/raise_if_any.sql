{# True where `errors` is null, else an error with its text, which ends the run. #}
{% macro raise_if_any(errors) -%}
    {{ return(adapter.dispatch('raise_if_any')(errors)) }}
{%- endmacro %}

{% macro default__raise_if_any(errors) -%}
    case when {{ errors }} is null then true else error({{ errors }}) end
{%- endmacro %}

{% macro spark__raise_if_any(errors) -%}
    case when {{ errors }} is null then true else raise_error({{ errors }}) end
{%- endmacro %}
