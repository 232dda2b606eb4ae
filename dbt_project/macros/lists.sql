{# Lists. #}

{# The values of a group as a list, in a total order. #}
{% macro ordered_list(value, order_by) -%}
    list({{ value }} order by {{ order_by }})
{%- endmacro %}

{# One row per pair of a name and a value: a struct of `name` and `value`. #}
{% macro unpivot(pairs) -%}
    unnest([
        {%- for name, value in pairs %}
        {'name': '{{ name }}', 'value': {{ value }}}
        {%- if not loop.last %},{% endif -%}
        {%- endfor %}
    ])
{%- endmacro %}

{# The texts between bars as a list. #}
{% macro split_bars(text) -%}
    split({{ text }}, '|')
{%- endmacro %}
