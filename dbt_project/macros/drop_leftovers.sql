{# Drops what dbt-duckdb leaves of an incremental Python model: the rows that it was
   about to merge, in a table of their own in the default schema. #}
{% macro drop_leftovers() -%}
    {%- if execute -%}
        {%- set found = run_query(
            "select table_name from duckdb_tables() where starts_with(table_name, '"
            ~ this.identifier ~ "__dbt_tmp') and schema_name = 'main'"
        ) -%}
        {%- for name in found.columns[0].values() %}
            drop table main.{{ name }};
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
