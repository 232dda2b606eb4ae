{# An order id as it is written: the one item of a list, without the signs that
   spreadsheets and shops set around a number; null where a placeholder stands for it. #}
{% macro order_id_in(text) -%}
    {{ known_name(
        "regexp_replace(" ~ bare(text) ~ ", '^\\[\"?([^\\[\\]{},\"]*)\"?\\]$', '\\1')",
        'order_id'
    ) }}
{%- endmacro %}

{# The key under which spellings of one order id meet. Shopify names an order by its
   number and by an address that ends in it, in Base64 too
   (https://shopify.dev/docs/api/usage/gids). Letters of one case are in lower case; an
   id that mixes cases may tell orders apart by them. #}
{% macro order_key(order_id) -%}
    {{ let(
        'shown',
        "regexp_replace(
            case
                when left(" ~ order_id ~ ", 12) = 'Z2lkOi8vc2hv'
                    then coalesce(
                        try(decode(from_base64(" ~ order_id ~ "))), " ~ order_id ~ "
                    )
                else " ~ order_id ~ "
            end,
            '^(?:gid://shopify/Order(?:Identity)?/([0-9]+)(?:[?].*)?|[=#''\" ]*(.*?)[''\" ]*)$',
            '\\1\\2'
        )",
        "case
            when shown = lower(shown) or shown = upper(shown) then lower(shown)
            else shown
        end"
    ) }}
{%- endmacro %}

{# The letters and digits of an order id, without the zeros that fill it up. #}
{% macro loose_order_key(order_key) -%}
    ltrim({{ spelled(order_key) }}, '0')
{%- endmacro %}
