{# Texts that hold addresses or their queries as one text in which every parameter
   stands between & and =, however it was set apart: by ?, # or ;, by &amp;, or
   percent-encoded with all of the query; null where nothing is set to anything. #}
{% macro url_query(texts) -%}
    {{ return(adapter.dispatch('url_query')(texts)) }}
{%- endmacro %}

{% macro default__url_query(texts) -%}
    {%- set text = 'concat_ws(chr(10), ' ~ texts | join(', ') ~ ')' -%}
    case
        when regexp_matches({{ text }}, '=|%3[dD]')
            then regexp_replace(
                regexp_replace(
                    {{ text }},
                    '(?i)%(?:3f|23|26|3b)(utm_[a-z]+|[a-z]*clid)%3d', '&\1=', 'g'
                ),
                '[?#&;](?:amp;|#38;)*([a-zA-Z0-9_]+)=', '&\1=', 'g'
            )
    end
{%- endmacro %}

{# The names of the parameters of such a text that have a value, in lower case. #}
{% macro url_parameters(query) -%}
    {{ return(adapter.dispatch('url_parameters')(query)) }}
{%- endmacro %}

{% macro default__url_parameters(query) -%}
    regexp_extract_all(lower({{ query }}), '&([a-z0-9_]+)=[^&#\n]', 1)
{%- endmacro %}

{# The first value of a parameter in such a text, decoded; null where it has none. #}
{% macro url_parameter(query, parameter) -%}
    {{ return(adapter.dispatch('url_parameter')(query, parameter)) }}
{%- endmacro %}

{% macro default__url_parameter(query, parameter) -%}
    {{ decoded(
        "replace(regexp_extract(" ~ query ~ ", '(?i)&" ~ parameter
        ~ "=([^&#\\n]+)', 1), '+', ' ')"
    ) }}
{%- endmacro %}

{# A text without percent-encoding, be it once or twice; null where nothing is left. #}
{% macro decoded(text) -%}
    {{ return(adapter.dispatch('decoded')(text)) }}
{%- endmacro %}

{% macro default__decoded(text) -%}
    nullif(trim(
        coalesce(
            try(url_decode(url_decode({{ text }}))),
            try(url_decode({{ text }})),
            {{ text }}
        )
    ), '')
{%- endmacro %}
