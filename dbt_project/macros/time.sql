{# Differences and sums of UTC timestamps. #}

{# Whole seconds from one moment to a later one. #}
{% macro seconds_between(earlier, later) -%}
    ((epoch_us({{ later }}) - epoch_us({{ earlier }})) // 1000000)
{%- endmacro %}

{# Whole 24-hour days from one moment to a later one. #}
{% macro days_between(earlier, later) -%}
    ((epoch_us({{ later }}) - epoch_us({{ earlier }})) // 86400000000)
{%- endmacro %}

{# The moment so many seconds later; a negative number goes back. #}
{% macro add_seconds(moment, seconds) -%}
    ({{ moment }} + to_seconds(cast({{ seconds }} as bigint)))
{%- endmacro %}

{# The moment so many 24-hour days later; a negative number goes back. #}
{% macro add_days(moment, days) -%}
    {{ add_seconds(moment, '86400 * (' ~ days ~ ')') }}
{%- endmacro %}

{# A UTC moment on the clock of an IANA time zone. #}
{% macro local_time(moment, zone) -%}
    timezone({{ zone }}, timezone('UTC', {{ moment }}))
{%- endmacro %}

{# The first moment from one on at a minute of the local day and on one of these ISO
   weekdays, of which none means any; the moment itself without a minute. #}
{% macro next_at(moment, zone, weekdays, minute) -%}
    case
        when {{ minute }} is null then {{ moment }}
        else timezone('UTC', timezone({{ zone }}, list_min(list_filter(
            list_transform(
                range(0, 9),
                lambda days: date_trunc('day', {{ local_time(moment, zone) }})
                + to_days(cast(days as integer)) + to_minutes({{ minute }})
            ),
            lambda begins_at: begins_at >= {{ local_time(moment, zone) }}
            and (
                coalesce(len({{ weekdays }}), 0) = 0
                or list_contains({{ weekdays }}, isodow(begins_at))
            )
        ))))
    end
{%- endmacro %}

{# The day written like 2026-01-31; null for any other text. #}
{% macro iso_date(text) -%}
    case when {{ text }} like '____-__-__' then try_cast({{ text }} as date) end
{%- endmacro %}

{# Whether a moment on some clock lies on a weekday or a weekend. #}
{% macro weekday_group(local_moment) -%}
    case
        when ({{ days_between("timestamp '1970-01-05 00:00:00'", local_moment) }}) % 7 >= 5
            then 'weekend'
        else 'weekday'
    end
{%- endmacro %}

{# Whether a moment on some clock lies on a Sunday. #}
{% macro is_sunday(local_moment) -%}
    ({{ days_between("timestamp '1970-01-05 00:00:00'", local_moment) }}) % 7 = 6
{%- endmacro %}

{# The two-hour slot of the day, 0 from midnight to 11. #}
{% macro day_slot(local_moment) -%}
    cast(floor(extract(hour from {{ local_moment }}) / 2) as integer)
{%- endmacro %}

{# Whether an hour of the local day lies in a channel's silence, which may span
   midnight; null where the channel has none. #}
{% macro is_silent(hour) -%}
    case
        when quiet_from_hour > quiet_until_hour
            then {{ hour }} >= quiet_from_hour or {{ hour }} < quiet_until_hour
        else {{ hour }} >= quiet_from_hour and {{ hour }} < quiet_until_hour
    end
{%- endmacro %}

{# The first moment of a clock that is set: long before the first shop online. #}
{% macro first_moment() -%}
    timestamp '1990-01-01 00:00:00'
{%- endmacro %}

{# The moment at which a message can have happened: none happens after it was received,
   and a clock that lost its setting begins again before the first moment. #}
{% macro possible_time(stated_at, received_at) -%}
    case
        when {{ stated_at }} < {{ first_moment() }} then {{ received_at }}
        when {{ received_at }} < {{ first_moment() }} then {{ stated_at }}
        else least({{ stated_at }}, {{ received_at }})
    end
{%- endmacro %}

{# The moment from which a statement counts against its opposite: a no from the last one
   at which it can have been made, a yes from the first, so that any doubt about their
   order ends in the no. #}
{% macro effective_time(is_no, stated_at, received_at) -%}
    case
        when not {{ is_no }}
            then greatest(
                least({{ stated_at }}, {{ received_at }}), {{ first_moment() }}
            )
        when {{ received_at }} < {{ first_moment() }} then {{ stated_at }}
        else {{ received_at }}
    end
{%- endmacro %}
