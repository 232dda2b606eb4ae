{# What stands where an id or a name is missing, or where one was spoilt on its way. It
   is decided here alone, for ids of persons, orders and messages and for names. #}

{# A text without spaces around it, the unseen ones included, and without the .0 that
   spreadsheets and data frames give a whole number. #}
{% macro whole_number(text) -%}
    regexp_replace({{ bare(text) }}, '^([0-9]{1,15})[.]0+$', '\1')
{%- endmacro %}

{# A text without spaces around it: blanks, breaks, no-break and zero-width spaces, byte
   order marks. #}
{% macro bare(text) -%}
    trim(
        {{ text }},
        ' ' || chr(9) || chr(10) || chr(13) || chr(160) || chr(8203) || chr(65279)
    )
{%- endmacro %}

{# An id or name as it is known; null where a placeholder stands for it. #}
{% macro known_name(text, kind='id') -%}
    case when not {{ is_placeholder(text, kind) }} then {{ whole_number(text) }} end
{%- endmacro %}

{# Whether a text names nothing. `kind` says of what it should be the name: `any`, for
   which the fewest words stand, `id` or `order_id`. #}
{% macro is_placeholder(text, kind='id') -%}
    coalesce(
        {{ is_word_for_nothing(text, kind) }}
        or {{ is_filler(text) }}
        or {{ is_template(text) }}
        or {{ is_lost_number(text) }},
        false
    )
{%- endmacro %}

{# Whether a text is a word that says that there is nothing. #}
{% macro is_word_for_nothing(text, kind) -%}
    {%- set kinds = {
        'any': "('any')",
        'id': "('any', 'id')",
        'order_id': "('any', 'id', 'order_id')",
    } -%}
    coalesce(
        length({{ text }}) <= 24
        and {{ spelled(text) }} in (
            select {{ spelled('placeholder') }}
            from {{ ref('placeholders') }}
            where stands_for in {{ kinds[kind] }}
        ),
        false
    )
{%- endmacro %}

{# Whether a text fills a form without a word: zeros and signs, one letter or (as a device)
   one digit all along, or one of the negative numbers by which programs say that there is none. #}
{% macro is_filler(text) -%}
    (
        translate({{ text }}, '0-_.:;,/()[]{}<>"''#*+?!=@|~$ ', '') = ''
        or (
            length({{ text }})
            >= case when substr({{ text }}, 1, 1) between '0' and '9' then 10 else 3 end
            and translate(
                lower({{ text }}), lower(substr({{ text }}, 1, 1)) || '-:', ''
            ) = ''
        )
        or {{ matches_whole(text, '-[0-9]{1,4}([.]0+)?') }}
    )
{%- endmacro %}

{# Whether a text is, or holds, what a template should have replaced. #}
{% macro is_template(text) -%}
    (
        regexp_matches(
            {{ text }},
            '[{][{]|[}][}]|[$#@][{]|[{]%|<%|%%|[*][|]|[|][*]|\[\[|(?i)%7b'
        )
        or (
            regexp_matches({{ text }}, '[{}]')
            and not {{ matches_whole(text, '[{][0-9a-fA-F-]{32,36}[}]') }}
        )
        or {{ matches_whole(text, '<[a-zA-Z_ .:/-]*>|\\[.*\\]|%[a-zA-Z_. ]+%|__[a-zA-Z_]+__') }}
        or {{ matches_whole(text, '[$:][a-zA-Z_.]*[iI][dD]') }}
    )
{%- endmacro %}

{# Whether a number lost digits on its way, as spreadsheets and data frames shorten long
   ones: many ids become one. #}
{% macro is_lost_number(text) -%}
    {{ matches_whole(
        text, '[0-9]([.,][0-9]+[eE][+]?|[eE][+])[0-9]+|[0-9]{16,}[.]0+'
    ) }}
{%- endmacro %}
