{# Whether values pass the tests of a condition that stand beside them in two lists. #}
{% macro passes_all(tests, found_values, as_of) -%}
    cardinality(list_filter(
        list_zip({{ tests }}, {{ found_values }}),
        lambda pair: not coalesce(
            case struct_extract(pair[1], 'comparison')
                when 'in' then {{ is_listed() }}
                when 'not_in' then pair[2] is null or not {{ is_listed() }}
                when 'at_least'
                    then try_cast(pair[2] as double)
                        >= struct_extract(pair[1], 'numbers')[1]
                when 'at_most'
                    then try_cast(pair[2] as double)
                        <= struct_extract(pair[1], 'numbers')[1]
                when 'before'
                    then try_cast(pair[2] as timestamp)
                        < cast(struct_extract(pair[1], 'texts')[1] as timestamp)
                when 'after'
                    then try_cast(pair[2] as timestamp)
                        >= cast(struct_extract(pair[1], 'texts')[1] as timestamp)
                when 'within'
                    then {{ add_seconds(
                        'try_cast(pair[2] as timestamp)',
                        "struct_extract(pair[1], 'numbers')[1]"
                    ) }} > {{ as_of }}
                when 'is_known' then pair[2] is not null
                when 'is_unknown' then pair[2] is null
            end,
            false
        )
    )) = 0
{%- endmacro %}

{# Whether the value of a pair is among what its test lists, as a text or a number. #}
{% macro is_listed() -%}
    (
        list_contains(struct_extract(pair[1], 'texts'), lower(trim(pair[2])))
        or coalesce(
            list_contains(
                struct_extract(pair[1], 'numbers'), try_cast(pair[2] as double)
            ),
            false
        )
    )
{%- endmacro %}

{# The value of a table's column whose name stands in another: of any that the contract
   of the table has, so that a new one needs no word here. #}
{% macro named_column(name, table) -%}
    {%- if execute %}
    {%- set node = graph.nodes.values()
        | selectattr('resource_type', 'equalto', 'model')
        | selectattr('name', 'equalto', table)
        | first %}
    case {{ name }}
        {%- for column in node.columns %}
        when '{{ column }}' then cast({{ table }}.{{ column }} as varchar)
        {%- endfor %}
    end
    {%- else %}
    cast({{ table }}.{{ name }} as varchar)
    {%- endif %}
{%- endmacro %}
