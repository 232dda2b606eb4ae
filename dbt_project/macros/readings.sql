{# Texts read as numbers and moments; null where they are none or have no room. #}

{# Money of less than a million million, so that sums and exchanges have room: a number,
   or one as people write it. #}
{% macro amount(text) -%}
    cast(
        coalesce(
            try_cast({{ text }} as decimal(14, 2)),
            case
                when {{ text }} is not null
                    then try_cast(
                        {{ written_number(money_parts(text)) }} as decimal(14, 2)
                    )
            end
        ) as decimal(18, 2)
    )
{%- endmacro %}

{# What money that people write says of its currency; null where it says nothing. #}
{% macro amount_currency(text) -%}
    {{ let(
        'parts',
        money_parts(text),
        "nullif(concat_ws(' ', nullif(parts.before, ''), nullif(parts.after, '')), '')"
    ) }}
{%- endmacro %}

{# The number in the parts of money, without marks between thousands and with a point.
   One comma or point before three digits may be either, and is not read. #}
{% macro written_number(parts) -%}
    {%- set digits = 'parts.digits' -%}
    {{ let('parts', parts,
        "case
            when
                parts.sign <> '' and parts.inner_sign <> ''
                or parts.before <> '' and parts.after <> ''
                or " ~ matches_whole(digits, '[1-9][0-9]{0,2}[.,][0-9]{3}')
        ~ " then null
            when " ~ matches_whole(
                digits, '[0-9]{1,3}(?:(?:,[0-9]{3}){2,}|(?:[.][0-9]{3}){2,})'
            )
        ~ " then parts.sign || parts.inner_sign || " ~ without(digits, '.,')
        ~ " when " ~ matches_whole(
                digits, "(?:[0-9]{1,3}(?:[. ''][0-9]{3})*|[0-9]+),[0-9]+"
            )
        ~ " then parts.sign || parts.inner_sign || replace("
        ~ without(digits, ". ''") ~ ", ',', '.')
            when " ~ matches_whole(
                digits,
                "(?:[0-9]{1,3}(?:[ ''][0-9]{3}|(?:,[0-9]{2,3})*,[0-9]{3})*|[0-9]*)"
                ~ '(?:[.][0-9]*)?'
            )
        ~ " then parts.sign || parts.inner_sign || " ~ without(digits, ", ''")
        ~ " end"
    ) }}
{%- endmacro %}

{# A text without any of some signs. #}
{% macro without(text, signs) -%}
    translate({{ text }}, '{{ signs }}', '')
{%- endmacro %}

{# Money as people write it, in parts: sign, currency before and after, sign, digits. A
   currency is three capitals, a sign of one with letters beside it, or its name. #}
{% macro money_parts(text) -%}
    {%- set currency -%}
        (?:[A-Z]{3}|[A-Za-z]{0,3}\p{Sc}[A-Za-z]{0,3}|(?i:kr|zł|fr|euros?|dollars?)[.]?)
    {%- endset -%}
    regexp_extract(
        regexp_replace(
            regexp_replace(
                replace({{ money_text(text) }}, '−', '-'),
                '[\s\x{a0}\x{2009}\x{202f}]+', ' ', 'g'
            ),
            '^ ?(?:[(](.*)[)]|(.*[0-9]) ?-) ?$', '-\1\2'
        ),
        '^ ?([+-]?) ?(?:({{ currency }}) ?)?([+-]?)([0-9., '']*[0-9.])'
        || '(?: ?({{ currency }}))? ?$',
        ['sign', 'before', 'inner_sign', 'digits', 'after']
    )
{%- endmacro %}

{# Money that is given as an object, such as Shopify's, as a text. #}
{% macro money_text(text) -%}
    case
        when left({{ text }}, 1) <> '{' then {{ text }}
        when json_valid({{ text }})
            then {{ let(
                'fields',
                json_texts(text, [
                    '$.amount',
                    '$.value',
                    '$.shop_money.amount',
                    '$.shopMoney.amount',
                    '$.currency_code',
                    '$.currencyCode',
                    '$.currency',
                    '$.shop_money.currency_code',
                    '$.shopMoney.currencyCode',
                ]),
                "concat_ws(
                    ' ',
                    coalesce(fields[5], fields[6], fields[7], fields[8], fields[9]),
                    coalesce(fields[1], fields[2], fields[3], fields[4])
                )"
            ) }}
    end
{%- endmacro %}

{# Minor units, such as cents, in its currency; null where that has none. #}
{% macro minor_amount(text, digits) -%}
    cast(
        try_cast({{ amount(text) }} / power(10, {{ digits }}) as decimal(14, 2))
        as decimal(18, 2)
    )
{%- endmacro %}

{# Units of less than a million. #}
{% macro quantity(text) -%}
    cast(try_cast({{ text }} as decimal(9, 3)) as decimal(18, 3))
{%- endmacro %}

{# A day that calendars of today hold. #}
{% macro plausible_date(text) -%}
    case
        when try_cast({{ text }} as date) between date '1900-01-01' and date '2200-01-01'
            then try_cast({{ text }} as date)
    end
{%- endmacro %}

{# A moment of our times in UTC; without offset it is UTC. #}
{% macro plausible_moment(text) -%}
    case
        when
            try_cast({{ text }} as timestamp with time zone)
            between timestamptz '1900-01-01 00:00:00+00'
            and timestamptz '2200-01-01 00:00:00+00'
            then cast(try_cast({{ text }} as timestamp with time zone) as timestamp)
    end
{%- endmacro %}

{# A text in the form of an ISO 4217 code. #}
{% macro is_currency(code) -%}
    {{ return(adapter.dispatch('is_currency')(code)) }}
{%- endmacro %}

{% macro default__is_currency(code) -%}
    regexp_full_match({{ code }}, '[A-Z]{3}')
{%- endmacro %}

{% macro spark__is_currency(code) -%}
    {{ code }} rlike '^[A-Z]{3}$'
{%- endmacro %}

{# Whether a flag is up, whatever its shape: anything but a no, an object or list with a
   yes in it or, without a no, with anything else. #}
{% macro is_flagged(text) -%}
    {%- set noes = "('', 'false', 'f', 'no', 'n', '0', '0.0', 'off', 'none', 'null',"
        ~ " 'never', 'nan', 'undefined', 'human', '{}', '[]')" -%}
    coalesce(
        case
            when left({{ text }}, 1) in ('{', '[') and json_valid({{ text }})
                then {{ let(
                    'answers',
                    "list_transform(
                        list_concat(
                            json_extract_string(" ~ text ~ ", '$.*'),
                            json_extract_string(" ~ text ~ ", '$[*]')
                        ),
                        lambda answer: lower(trim(answer))
                    )",
                    "list_contains(answers, 'true') or (
                        not list_contains(answers, 'false')
                        and len(list_filter(
                            answers, lambda answer: answer not in " ~ noes ~ "
                        )) > 0
                    )"
                ) }}
            else lower({{ bare(text) }}) not in {{ noes }}
        end,
        false
    )
{%- endmacro %}

{# A currency as it is stated, also as the one item of a list or within an object. #}
{% macro currency_text(text) -%}
    {{ bare(
        "case
            when
                left(" ~ text ~ ", 1) in ('[', '{')
                and len(" ~ text ~ ") > 2
                and json_valid(" ~ text ~ ")
                then coalesce(" ~ let(
            'fields',
            json_texts(text, [
                '$[0]',
                '$[1]',
                '$.code',
                '$.currency',
                '$.currency_code',
                '$.currencyCode',
                '$.iso_code',
                '$.isoCode',
            ]),
            "case
                when fields[2] is null
                    then coalesce(
                        fields[1], fields[3], fields[4], fields[5], fields[6],
                        fields[7], fields[8]
                    )
            end"
        ) ~ ", " ~ text ~ ")
            else " ~ text ~ "
        end"
    ) }}
{%- endmacro %}

{# How a currency is compared with those that are written without their code. #}
{% macro written_currency(text) -%}
    translate(lower({{ text }}), ' .', '')
{%- endmacro %}

{# The values of a message that were stated and could not be read, of (kind, text,
   reading); null where all were. #}
{% macro unread(values) -%}
    case
        when
            {%- for _, text, reading in values %}
            (trim({{ text }}) <> '' and {{ reading }} is null)
            {%- if not loop.last %} or {% endif -%}
            {%- endfor %}
            then list_filter(
                [
                    {%- for kind, text, reading in values %}
                    case
                        when trim({{ text }}) <> '' and {{ reading }} is null
                            then {'kind': '{{ kind }}', 'value': {{ text }}}
                    end
                    {%- if not loop.last %},{% endif -%}
                    {%- endfor %}
                ],
                lambda item: item is not null
            )
    end
{%- endmacro %}

{# The first status of SMTP of a form in a text; empty without one. It ends before
   anything but a further part, as an IP address would have. #}
{% macro smtp_status(text, form) -%}
    regexp_extract(
        {{ text }}, '(^|[^0-9.])({{ form }})($|[^0-9.]|[.]($|[^0-9]))', 2
    )
{%- endmacro %}
