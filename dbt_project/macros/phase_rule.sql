{# The threshold of a rule in the seed `phase_rules`. #}
{% macro phase_rule(rule) -%}
    (select threshold from {{ ref('phase_rules') }} where rule = '{{ rule }}')
{%- endmacro %}
