{# Puts the rows that a brand keeps of a seed, where the run brought any, in place of the
   checkout's. #}
{% macro own_rows() -%}
    {%- if execute -%}
        {%- set found = run_query(
            "select table_name from duckdb_tables() where schema_name = 'raw' "
            ~ "and table_name = 'own_" ~ this.identifier ~ "'"
        ) -%}
        {%- for name in found.columns[0].values() %}
            delete from {{ this }};
            insert into {{ this }} by name select * from raw.{{ name }};
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
