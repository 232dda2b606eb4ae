{# Stops the build of a table in which two rows share the key, or one has none, that the
   description of the table states as `meta: {key: [...]}`: columns or expressions, or
   several such lists. It runs where the table is made, which a test of its own for each
   table would take as long as a small table to do. #}
{% macro check_key() -%}
    {#- a table that grows has its new rows checked alone #}
    {%- if config.get('materialized') != 'by_message' -%}
    {{ key_checks(this) }}
    {%- endif -%}
{%- endmacro %}

{% macro key_checks(relation) -%}
    {%- set stated = model.config.meta.get('key', []) -%}
    {%- set keys = [stated] if stated and stated[0] is string else stated -%}
    {%- for key in keys %}
    select error(
        '{{ this.schema }}.{{ this.identifier }} has not one row per '
        || '({{ key | join(", ") | replace("'", "''") }}): ' || found
    )
    from (
        select concat_ws(', ', {{ key | join(', ') }}) as found
        from {{ relation }}
        group by {{ key | join(', ') }}
        having
            count(*) > 1
            {%- for column in key %}
            or {{ column }} is null
            {%- endfor %}
        limit 1
    ) as offenders;
    {%- endfor %}
{%- endmacro %}
