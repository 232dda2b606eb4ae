{# The window in hours, or the limit, of a rule in the seed `decision_rules`. #}
{% macro decision_rule(rule, column) -%}
    (select {{ column }} from {{ ref('decision_rules') }} where rule = '{{ rule }}')
{%- endmacro %}
