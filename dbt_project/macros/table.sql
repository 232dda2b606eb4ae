{# A table, replaced in one transaction.

   dbt-duckdb's own builds beside and renames twice, looking for indexes, foreign keys
   and grants, which no table here has: a third of the time that a build of small
   tables takes. #}
{% materialization table, adapter='duckdb', supported_languages=['sql', 'python'] %}
    {%- set language = model['language'] -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='table') -%}

    {{ run_hooks(pre_hooks) }}
    {%- if language == 'sql' %}
        {% call statement('main') -%}
            {%- if existing is not none %}
            drop {{ existing.type }} {{ existing }};
            {%- endif %}
            {{ create_table_as(False, target, compiled_code) }}
        {%- endcall %}
    {%- else %}
        {%- set beside = make_intermediate_relation(target) -%}
        {{ drop_relation_if_exists(load_cached_relation(beside)) }}
        {% call statement('main', language=language) -%}
            {{- create_table_as(False, beside, compiled_code, language) }}
        {%- endcall %}
        {{ drop_relation_if_exists(existing) }}
        {% do adapter.rename_relation(beside, target) %}
    {%- endif %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}

    {{ return({'relations': [target]}) }}
{% endmaterialization %}
