{# JSON, where DuckDB and Spark differ. Paths are JSONPath literals: '$.a.b'. #}

{# The value as text; null where it is absent or JSON null. #}
{% macro json_text(column, path) -%}
    {{ return(adapter.dispatch('json_text')(column, path)) }}
{%- endmacro %}

{% macro default__json_text(column, path) -%}
    json_extract_string({{ column }}, '{{ path }}')
{%- endmacro %}

{% macro spark__json_text(column, path) -%}
    get_json_object({{ column }}, '{{ path }}')
{%- endmacro %}

{# The same where the path is itself a value. #}
{% macro json_text_at(column, path) -%}
    {{ return(adapter.dispatch('json_text_at')(column, path)) }}
{%- endmacro %}

{% macro default__json_text_at(column, path) -%}
    json_extract_string({{ column }}, {{ path }})
{%- endmacro %}

{% macro spark__json_text_at(column, path) -%}
    get_json_object({{ column }}, {{ path }})
{%- endmacro %}

{# A JSON array as a list of JSON objects; null where it is no array. #}
{% macro json_objects(column, path) -%}
    {{ return(adapter.dispatch('json_objects')(column, path)) }}
{%- endmacro %}

{% macro default__json_objects(column, path) -%}
    case
        when json_type({{ column }}, '{{ path }}') = 'ARRAY'
            then cast(json_extract({{ column }}, '{{ path }}') as json[])
    end
{%- endmacro %}

{% macro spark__json_objects(column, path) -%}
    from_json(get_json_object({{ column }}, '{{ path }}'), 'array<string>')
{%- endmacro %}

{# Many values as a list of texts, read in one pass over the JSON. #}
{% macro json_texts(column, paths) -%}
    {{ return(adapter.dispatch('json_texts')(column, paths)) }}
{%- endmacro %}

{% macro default__json_texts(column, paths) -%}
    json_extract_string({{ column }}, ['{{ paths | join("', '") }}'])
{%- endmacro %}

{% macro spark__json_texts(column, paths) -%}
    array(
        {%- for path in paths %}
        get_json_object({{ column }}, '{{ path }}')
        {%- if not loop.last %},{% endif -%}
        {%- endfor %}
    )
{%- endmacro %}

{# The JSON object at a path; null where there is anything else. #}
{% macro json_object_at(column, path) -%}
    case
        when json_type({{ column }}, '{{ path }}') = 'OBJECT'
            then json_extract({{ column }}, '{{ path }}')
    end
{%- endmacro %}

{# The JSON at each of some paths, read in one go. #}
{% macro json_values(column, paths) -%}
    json_extract({{ column }}, ['{{ paths | join("', '") }}'])
{%- endmacro %}

{# The JSON in a text if it is an object; null where it is anything else. #}
{% macro if_object(text) -%}
    case when left({{ text }}, 1) = '{' then try_cast({{ text }} as json) end
{%- endmacro %}

{# A JSON value; the object or list itself where it is written as text. #}
{% macro unfolded(value) -%}
    coalesce(
        case
            when left(json_extract_string({{ value }}, '$'), 1) in ('{', '[')
                then try_cast(json_extract_string({{ value }}, '$') as json)
        end,
        {{ value }}
    )
{%- endmacro %}

{# A JSON object and what the object under a key of it says, as far as it does not. #}
{% macro with_lifted(column, key) -%}
    case
        when {{ column }} like '%"{{ key }}"%'
            then json_merge_patch(
                coalesce({{ json_object_at(column, '$.' ~ key) }}, '{}'), {{ column }}
            )
        else {{ column }}
    end
{%- endmacro %}
