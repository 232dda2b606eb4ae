{# Lists, where DuckDB and Spark differ. #}

{# The values of a group as a list, in a total order. #}
{% macro ordered_list(value, order_by) -%}
    {{ return(adapter.dispatch('ordered_list')(value, order_by)) }}
{%- endmacro %}

{% macro default__ordered_list(value, order_by) -%}
    list({{ value }} order by {{ order_by }})
{%- endmacro %}

{% macro spark__ordered_list(value, order_by) -%}
    transform(
        array_sort(array_agg(struct({{ order_by }}, {{ value }} as value))),
        item -> item.value
    )
{%- endmacro %}

{# One row per pair of a name and a value: a struct of `name` and `value`. #}
{% macro unpivot(pairs) -%}
    {{ return(adapter.dispatch('unpivot')(pairs)) }}
{%- endmacro %}

{% macro default__unpivot(pairs) -%}
    unnest([
        {%- for name, value in pairs %}
        {'name': '{{ name }}', 'value': {{ value }}}
        {%- if not loop.last %},{% endif -%}
        {%- endfor %}
    ])
{%- endmacro %}

{% macro spark__unpivot(pairs) -%}
    explode(array(
        {%- for name, value in pairs %}
        named_struct('name', '{{ name }}', 'value', {{ value }})
        {%- if not loop.last %},{% endif -%}
        {%- endfor %}
    ))
{%- endmacro %}

{# The texts between bars as a list. #}
{% macro split_bars(text) -%}
    {{ return(adapter.dispatch('split_bars')(text)) }}
{%- endmacro %}

{% macro default__split_bars(text) -%}
    split({{ text }}, '|')
{%- endmacro %}

{% macro spark__split_bars(text) -%}
    split({{ text }}, '[|]')
{%- endmacro %}
