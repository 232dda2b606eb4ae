{# What stands where an id or a name is missing, or where one was spoilt on its way. It
   is decided here alone, for ids of persons, orders and messages and for names. #}

{# A text without spaces around it, the unseen ones included, and without the .0 that
   spreadsheets and data frames give a whole number; most texts are so already. #}
{% macro whole_number(text) -%}
    case
        when {{ matches_whole(text, '[!-~]*[1-9a-zA-Z]') }} then {{ text }}
        else regexp_replace({{ bare(text) }}, '^([0-9]{1,15})[.]0+$', '\1')
    end
{%- endmacro %}

{# A text without spaces around it: blanks, breaks, no-break and zero-width spaces, byte
   order marks. #}
{% macro bare(text) -%}
    trim(
        {{ text }},
        ' ' || chr(9) || chr(10) || chr(13) || chr(160) || chr(8203) || chr(65279)
    )
{%- endmacro %}

{# An id or name as it is known; null where a placeholder stands for it. What most ids and
   names look like is looked for first. #}
{% macro known_name(text, kind='id') -%}
    case
        when {{ text }} is null then null
        {%- if kind != 'order_id' %}
        when {{ is_plain_id(text) }} then {{ text }}
        {%- endif %}
        when {{ is_word_for_nothing(text, kind) }} then null
        {%- if kind == 'any' %}
        when {{ is_plain_name(text) }} then {{ text }}
        {%- endif %}
        when {{ is_spoilt(text, kind) }} or {{ is_template(text) }} then null
        else {{ whole_number(text) }}
    end
{%- endmacro %}

{# Whether a text names nothing. `kind` says of what it should be the name: `any`, for
   which the fewest words stand, `id` or `order_id`. #}
{% macro is_placeholder(text, kind='id') -%}
    ({{ text }} is not null and {{ known_name(text, kind) }} is null)
{%- endmacro %}

{# Whether a text looks like most ids, so that nothing more need be asked: a short number
   or letters (an E may be of a number) and digits without the signs of templates. Only
   placeholders of orders hold a digit. #}
{% macro is_plain_id(text) -%}
    {%- set any = '[a-zA-Z0-9@._-]*' -%}
    {%- set letter = '[a-df-zA-DF-Z]' -%}
    {{ matches_whole(
        text,
        '[1-9][0-9]{0,8}|' ~ any ~ '(?:' ~ letter ~ any ~ '[0-9]|[0-9]' ~ any ~ letter
        ~ ')' ~ any
    ) }}
{%- endmacro %}

{# Whether a text looks like most names: words of plain letters with few signs between
   them. What spoils a name has none but an E. #}
{% macro is_plain_name(text) -%}
    {{ matches_whole(
        text,
        '(?:[a-zA-Z0-9][a-zA-Z0-9 &,./_-]*)?[a-df-zA-DF-Z](?:[a-zA-Z0-9 &,./_-]*[a-zA-Z0-9])?'
    ) }}
{%- endmacro %}

{# Whether a text is a word that says that there is nothing. #}
{% macro is_word_for_nothing(text, kind) -%}
    {%- set kinds = {
        'any': "('any')",
        'id': "('any', 'id')",
        'order_id': "('any', 'id', 'order_id')",
    } -%}
    case
        when {{ may_be_word(text, kind) }}
            then array_contains(
                (
                    select array_agg({{ spelled('placeholder') }})
                    from {{ ref('placeholders') }}
                    where stands_for in {{ kinds[kind] }}
                ),
                {{ spelled(text) }}
            )
        else false
    end
{%- endmacro %}

{# Whether a text is worth being looked up among words for nothing: a short one and,
   unless it should name an order, without a digit, as these words are. #}
{% macro may_be_word(text, kind) -%}
    length({{ text }}) <= 24
    {%- if kind != 'order_id' %} and not regexp_matches({{ text }}, '[0-9]'){% endif %}
{%- endmacro %}

{# Whether a text fills a form without a word: zeros and signs, a negative number by which
   programs say that there is none or, as an id, one letter or long one digit all along;
   or is a number that lost digits on its way, as spreadsheets and data frames shorten
   long ones, so that many ids become one. #}
{% macro is_spoilt(text, kind) -%}
    {%- set ways = [
        '[-0_.:;,/()\\[\\]{}<>"\'\'#*+?!=@|~$ ]*',
        '-[0-9]{1,4}(?:[.]0+)?',
        '[0-9](?:[.,][0-9]+[eE][+]?|[eE][+])[0-9]+',
        '[0-9]{16,}[.]0+',
    ] -%}
    {%- if kind != 'any' -%}
        {%- for sign in 'abcdefghijklmnopqrstuvwxyz' -%}
            {%- set letter = '[' ~ sign ~ sign | upper ~ ']' -%}
            {%- do ways.append(letter ~ '(?:[:-]?' ~ letter ~ '){2,}[:-]?') -%}
        {%- endfor -%}
        {%- for sign in '123456789' -%}
            {%- do ways.append(sign ~ '(?:[:-]?' ~ sign ~ '){9,}[:-]?') -%}
        {%- endfor -%}
    {%- endif -%}
    {{ matches_whole(text, ways | join('|')) }}
{%- endmacro %}

{# Whether a text is, or holds, what a template should have replaced. #}
{% macro is_template(text) -%}
    (
        {{ matches_whole(
            text,
            '<[a-zA-Z_ .:/-]*>|\\[.*\\]|%[a-zA-Z_. ]+%|__[a-zA-Z_]+__'
            ~ '|[$:][a-zA-Z_.]*[iI][dD]'
        ) }}
        or (
            regexp_matches({{ text }}, '[{}]|<%|%%|[*][|]|[|][*]|\[\[|%7[bB]')
            and not {{ matches_whole(text, '[{][0-9a-fA-F-]{32,36}[}]') }}
        )
    )
{%- endmacro %}
