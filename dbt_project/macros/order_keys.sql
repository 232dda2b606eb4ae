{# An order id as it is written, also as the one item of a list; null where a placeholder
   stands for it. #}
{% macro order_id_in(text) -%}
    {{ known_name(
        "case when left(" ~ text ~ ", 1) = '[' then regexp_replace("
        ~ text ~ ", '^\\[\"?([^\\[\\]{},\"]*)\"?\\]$', '\\1') else " ~ text ~ " end",
        'order_id'
    ) }}
{%- endmacro %}

{# The key under which spellings of one order id meet: without the signs that shops and
   spreadsheets set around it. Shopify names an order by its number and by an address
   that ends in it, in Base64 too (https://shopify.dev/docs/api/usage/gids). Letters of
   one case are in lower case; orders may differ by the case of letters in an id that mixes cases. #}
{% macro order_key(order_id) -%}
    {%- set address = 'gid://shopify/Order(?:Identity)?/([0-9]+)(?:[?].*)?' -%}
    case
        when {{ matches_whole(order_id, '[0-9a-z._/-]+') }} then {{ order_id }}
        else {{ let(
            'shown',
            "regexp_replace(
                case
                    when left(" ~ order_id ~ ", 12) = 'Z2lkOi8vc2hv'
                        then coalesce(
                            try(decode(from_base64(" ~ order_id ~ "))), " ~ order_id ~ "
                        )
                    else " ~ order_id ~ "
                end,
                '^(?:" ~ address ~ "|[=#''\" ]*(.*?)[''\" ]*)$', '\\1\\2'
            )",
            "case
                when shown in (lower(shown), upper(shown)) then lower(shown)
                else shown
            end"
        ) }}
    end
{%- endmacro %}

{# The letters and digits of an order id, without the zeros that fill it up. #}
{% macro loose_order_key(order_key) -%}
    ltrim({{ spelled(order_key) }}, '0')
{%- endmacro %}
