{# A stable text key: md5 over the parts, each null-safe and set apart. #}
{% macro surrogate_key(parts) -%}
    md5(
        {%- for part in parts %}
        coalesce(cast({{ part }} as varchar), '∅')
        {%- if not loop.last %} || '␟' || {% endif -%}
        {%- endfor -%}
    )
{%- endmacro %}

{# An md5 of text as the 8-4-4-4-12 text of a UUID. #}
{% macro uuid_of(text) -%}
    substr(md5({{ text }}), 1, 8)
    || '-' || substr(md5({{ text }}), 9, 4)
    || '-' || substr(md5({{ text }}), 13, 4)
    || '-' || substr(md5({{ text }}), 17, 4)
    || '-' || substr(md5({{ text }}), 21, 12)
{%- endmacro %}

{# A letter for a number from 1: a, b, c and on through Unicode, past the code points
   that are no letters. #}
{% macro letter(number) -%}
    {{ return(adapter.dispatch('letter')(number)) }}
{%- endmacro %}

{% macro default__letter(number) -%}
    chr(cast(
        96 + {{ number }} + case when {{ number }} < 55200 then 0 else 2048 end
        as integer
    ))
{%- endmacro %}

{% macro spark__letter(number) -%}
    decode(unhex(lpad(hex(
        96 + {{ number }} + case when {{ number }} < 55200 then 0 else 2048 end
    ), 8, '0')), 'UTF-32')
{%- endmacro %}

{# A stable number in 0–1 from text, for assignment to groups. #}
{% macro unit_interval(text) -%}
    {{ return(adapter.dispatch('unit_interval')(text)) }}
{%- endmacro %}

{% macro default__unit_interval(text) -%}
    (cast(cast('0x' || substr(md5({{ text }}), 1, 8) as bigint) as double) / 4294967296)
{%- endmacro %}

{% macro spark__unit_interval(text) -%}
    (cast(conv(substr(md5({{ text }}), 1, 8), 16, 10) as double) / 4294967296)
{%- endmacro %}

{# The first eight bytes of an md5 as a number, the first byte being the smallest.
   `md5_number_upper` says the same, more slowly. #}
{% macro identifier_hash64(text) -%}
    {{ return(adapter.dispatch('identifier_hash64')(text)) }}
{%- endmacro %}

{% macro default__identifier_hash64(text) -%}
    cast(md5_number({{ text }}) & 18446744073709551615 as ubigint)
{%- endmacro %}

{% macro spark__identifier_hash64(text) -%}
    cast(
        conv(
            {%- for place in range(15, 0, -2) %}
            substr(md5({{ text }}), {{ place }}, 2)
            {%- if not loop.last %} || {% endif -%}
            {%- endfor %},
            16, 10
        ) as decimal(20, 0)
    )
{%- endmacro %}
