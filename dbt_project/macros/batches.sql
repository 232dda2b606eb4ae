{# Identity takes each message in once, in numbered batches: a batch is what one run
   found new. Each incremental model remembers the last batch it has taken in, so that a
   run that broke off is made up for by the next. #}

{# The number of the last batch that this model has taken in. #}
{% macro last_batch() -%}
    {%- if is_incremental() -%}
        (select coalesce(max(batch_seq), 0) from {{ this }})
    {%- else -%}
        cast(0 as bigint)
    {%- endif -%}
{%- endmacro %}
