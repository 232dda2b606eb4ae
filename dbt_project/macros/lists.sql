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
