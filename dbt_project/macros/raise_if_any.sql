{# True where `errors` is null, else an error with its text, which ends the run. #}
{% macro raise_if_any(errors) -%}
    case when {{ errors }} is null then true else error({{ errors }}) end
{%- endmacro %}
