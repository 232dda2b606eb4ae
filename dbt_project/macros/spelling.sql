{# How a name or value is compared with those in a seed: its letters and digits alone,
   in lower case. #}
{% macro spelled(text) -%}
    {{ return(adapter.dispatch('spelled')(text)) }}
{%- endmacro %}

{% macro default__spelled(text) -%}
    regexp_replace(lower({{ text }}), '[^\pL\pN]', '', 'g')
{%- endmacro %}

{% macro spark__spelled(text) -%}
    regexp_replace(lower({{ text }}), '[^\\p{L}\\p{N}]', '')
{%- endmacro %}

{# The words of a text in lower case, one space between them; `camelCase` is two. #}
{% macro words_in(text) -%}
    {{ return(adapter.dispatch('words_in')(text)) }}
{%- endmacro %}

{% macro default__words_in(text) -%}
    regexp_replace(
        lower(regexp_replace({{ text }}, '(\p{Ll})(\p{Lu})', '\1 \2', 'g')),
        '[^\pL\pN]+', ' ', 'g'
    )
{%- endmacro %}

{% macro spark__words_in(text) -%}
    regexp_replace(
        lower(regexp_replace({{ text }}, '(\\p{Ll})(\\p{Lu})', '$1 $2')),
        '[^\\p{L}\\p{N}]+', ' '
    )
{%- endmacro %}

{# The known spellings of a field's values, as they are compared. #}
{% macro spellings(field) -%}
    (
        select
            {{ spelled('spelling') }} as spelled,
            meaning,
            preference
        from {{ ref('spellings') }}
        where field = '{{ field }}'
    )
{%- endmacro %}

{# The names of countries, as they are compared. #}
{% macro country_names() -%}
    select
        country,
        {{ spelled('name') }} as spelled
    from (
        select
            country,
            {{ unnest_items(split_bars('names')) }} as name
        from {{ ref('countries') }}
    ) as names
    union all
    select
        meaning as country,
        spelled
    from {{ spellings('country') }}
{%- endmacro %}

{# One row per list of keys, found in a JSON column of a relation, of which some are
   spelled otherwise: for each of these the key that is meant and, as JSON pointers, the
   places that may hold it, the preferred one first. #}
{% macro key_spellings(field, relation, column) -%}
    select
        keys,
        list({'meaning': meaning, 'places': places} order by meaning asc)
            as respellings
    from (
        select
            key_lists.keys,
            known.meaning,
            list(
                {{ json_pointer('key_lists.found_key') }}
                order by
                    case when key_lists.found_key = known.meaning then 0 else 1 end,
                    known.preference asc,
                    key_lists.found_key asc
            ) as places,
            bool_or(key_lists.found_key <> known.meaning) as is_respelled
        from (
            select
                keys,
                unnest(keys) as found_key
            from (
                select distinct json_keys({{ column }}) as keys
                from {{ relation }}
            ) as distinct_keys
        ) as key_lists
        inner join {{ spellings(field) }} as known
            on {{ spelled('key_lists.found_key') }} = known.spelled
        group by key_lists.keys, known.meaning
    ) as keys_by_meaning
    where is_respelled
    group by keys
{%- endmacro %}

{# A JSON object under the keys that are meant; as it is where nothing is respelled. #}
{% macro respelled(column, respellings) -%}
    case
        when {{ respellings }} is null then {{ column }}
        else json_merge_patch({{ column }}, to_json(map_from_entries(
            list_transform({{ respellings }}, lambda respelling: {
                'key': respelling.meaning,
                'value': list_filter(
                    list_transform(
                        respelling.places,
                        lambda place: json_extract({{ column }}, place)
                    ),
                    lambda found: coalesce(
                        cast(found as varchar) not in ('null', '""'), false
                    )
                )[1]
            })
        )))
    end
{%- endmacro %}

{# The JSON pointer to a key of an object, whatever characters it has. #}
{% macro json_pointer(key) -%}
    '/' || replace(replace({{ key }}, '~', '~0'), '/', '~1')
{%- endmacro %}
