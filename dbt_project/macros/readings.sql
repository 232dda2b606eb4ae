{# Texts read as numbers and moments; null where they are none or have no room. #}

{# Money of less than a million million, so that sums and exchanges have room. #}
{% macro amount(text) -%}
    cast(try_cast({{ text }} as decimal(14, 2)) as decimal(18, 2))
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
