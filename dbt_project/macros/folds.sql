{# Structs, and folding a list into one value. What holds a lambda is dispatched, as
   sqlfluff cannot read one. #}

{# A struct from a mapping of field name to expression. #}
{% macro make_struct(fields) -%}
    struct_pack(
        {%- for name, value in fields.items() %}
        {{ name }} := {{ value }}
        {%- if not loop.last %},{% endif -%}
        {%- endfor %}
    )
{%- endmacro %}

{# A list of structs without any item; `types` maps field name to type. #}
{% macro empty_structs(types) -%}
    cast([] as struct(
        {%- for name, type in types.items() -%}
        {{ name }} {{ type }}{% if not loop.last %}, {% endif %}
        {%- endfor -%}
    )[])
{%- endmacro %}

{# Walk a list from `initial`; `next_state` is written in `state` and `item`. #}
{% macro fold_list(list, initial, next_state) -%}
    {{ return(adapter.dispatch('fold_list')(list, initial, next_state)) }}
{%- endmacro %}

{% macro default__fold_list(list, initial, next_state) -%}
    list_reduce({{ list }}, lambda state, item: {{ next_state }}, {{ initial }})
{%- endmacro %}

{# Evaluate `expression`, in which `name` stands for `value`, computed once. #}
{% macro let(name, value, expression) -%}
    {{ return(adapter.dispatch('let')(name, value, expression)) }}
{%- endmacro %}

{% macro default__let(name, value, expression) -%}
    list_extract(list_transform([{{ value }}], lambda {{ name }}: {{ expression }}), 1)
{%- endmacro %}

{# The item at a position, counted from 1; null beyond the end. #}
{% macro list_item(list, position) -%}
    list_extract({{ list }}, {{ position }})
{%- endmacro %}

{# One row per item, in a select list. #}
{% macro unnest_items(list) -%}
    unnest({{ list }})
{%- endmacro %}

{# A struct as JSON text. #}
{% macro struct_json(struct) -%}
    cast(to_json({{ struct }}) as varchar)
{%- endmacro %}
