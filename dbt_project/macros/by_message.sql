{# Tables each of whose rows is read from one message: a run adds the rows of the
   messages that it takes in, and puts them in place of what an earlier run read in these.

   What such a table has taken in is its comment: a name of all that it is made by, the
   number and the moment of the last run that it knows. A table of another name, or of a
   later moment, is made anew; so is every one by `--full-refresh`. A run that breaks off
   is made up for by the next, as each table remembers for itself. #}
{% materialization by_message, adapter='duckdb' %}
    {%- set taken_in = taken_in() -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='table') -%}
    {%- set added = this.identifier ~ '__added' -%}

    {{ run_hooks(pre_hooks) }}
    {% call statement('main') -%}
        {%- if taken_in %}
        create or replace temp table {{ added }} as {{ compiled_code }};
        {{ key_checks(added) }}
        delete from {{ target }}
        where message_id in (select message_id from {{ added }});
        insert into {{ target }} select * from {{ added }};
        drop table {{ added }};
        {%- else %}
            {%- if existing is not none %}
        drop {{ existing.type }} {{ existing }};
            {%- endif %}
        {{ create_table_as(False, target, compiled_code) }};
        {{ key_checks(target) }}
        {%- endif %}
    {%- endcall %}
    {%- set run = run_query(
        'select ' ~ made_by() ~ " || ' ' || run_seq || ' ' || as_of from raw.current_run"
    ) %}
    {% call statement('remember') -%}
        comment on table {{ target }} is '{{ run.columns[0][0] }}'
    {%- endcall %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}

    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{# A name of all that turns messages into `staging`, as SQL on `raw.current_run`: what a
   run knows of it, and the models as they are, which may be edited between two runs. #}
{% macro made_by() -%}
    {%- set models = [] -%}
    {%- for node in graph.nodes.values() if node.schema == 'staging' -%}
        {%- do models.append(node.name ~ node.raw_code) -%}
    {%- endfor -%}
    {{ return("staging_hash || '" ~ local_md5(models | sort | join) ~ "'") }}
{%- endmacro %}

{# The last run that this table has taken in, as {run_seq, as_of}; none where it is to be
   made anew. #}
{% macro taken_in() -%}
    {%- if execute and model.resource_type == 'model' and not flags.FULL_REFRESH -%}
        {%- if load_cached_relation(this) is not none -%}
            {%- set found = run_query(
                "select split_part(comment, ' ', 2), split_part(comment, ' ', 3) || ' ' "
                ~ "|| split_part(comment, ' ', 4) "
                ~ 'from duckdb_tables() cross join raw.current_run '
                ~ 'where database_name = current_database() '
                ~ "and schema_name = '" ~ this.schema ~ "' "
                ~ "and table_name = '" ~ this.identifier ~ "' "
                ~ "and split_part(comment, ' ', 1) = " ~ made_by() ~ ' '
                ~ "and split_part(comment, ' ', 3) || ' ' || split_part(comment, ' ', 4) "
                ~ '<= cast(as_of as varchar)'
            ) -%}
            {%- for row in found.rows -%}
                {{ return({'run_seq': row[0], 'as_of': row[1]}) }}
            {%- endfor -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(none) }}
{%- endmacro %}

{# Whether this table has not yet taken in a message of `stg_events`. #}
{% macro is_new_message() -%}
    {%- set taken_in = taken_in() -%}
    {%- if taken_in.run_seq -%}
        batch_seq > {{ taken_in.run_seq }}
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{# The same of a row of a table that is read from messages. #}
{% macro is_of_new_message() -%}
    {%- if taken_in().run_seq -%}
        message_id in (
            select new_messages.message_id
            from {{ ref('stg_events') }} as new_messages
            where {{ is_new_message() }}
        )
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{# Whether `stg_events` has not yet taken in a message of `raw.events`: it arrived, or
   the time came from which it may be known, after the last run. #}
{% macro is_new_arrival() -%}
    {%- set taken_in = taken_in() -%}
    {%- if taken_in.run_seq -%}
        (
            landing_seq > {{ taken_in.run_seq }}
            or received_at > timestamp '{{ taken_in.as_of }}'
            or {{ possible_time('occurred_at', 'received_at') }}
            > timestamp '{{ taken_in.as_of }}'
        )
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
