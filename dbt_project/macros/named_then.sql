{# Whether a row of `journey_names` or `step_places` holds at a moment: a name may have
   meant something else before, or mean something else since. #}
{% macro named_then(names, moment) -%}
    (
        ({{ names }}.named_from is null or {{ names }}.named_from <= {{ moment }})
        and (
            {{ names }}.named_until is null or {{ moment }} < {{ names }}.named_until
        )
    )
{%- endmacro %}
