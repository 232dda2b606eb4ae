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

{# One row per pair of name and value: columns `name_as` and `value_as`. #}
{% macro unpivot(pairs, name_as, value_as) -%}
    {{ return(adapter.dispatch('unpivot')(pairs, name_as, value_as)) }}
{%- endmacro %}

{% macro default__unpivot(pairs, name_as, value_as) -%}
    unnest(
        [
            {%- for name, value in pairs %}
            {'{{ name_as }}': '{{ name }}', '{{ value_as }}': {{ value }}}
            {%- if not loop.last %},{% endif -%}
            {%- endfor %}
        ],
        max_depth := 2
    )
{%- endmacro %}

{% macro spark__unpivot(pairs, name_as, value_as) -%}
    inline(
        array(
            {%- for name, value in pairs %}
            named_struct('{{ name_as }}', '{{ name }}', '{{ value_as }}', {{ value }})
            {%- if not loop.last %},{% endif -%}
            {%- endfor %}
        )
    )
{%- endmacro %}
